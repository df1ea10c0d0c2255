output "id" {
  description = "Resource id of the vault."
  value       = azurerm_key_vault.this.id
}

output "url" {
  description = "Where its secrets are read."
  value       = azurerm_key_vault.this.vault_uri
}
