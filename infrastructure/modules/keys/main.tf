# The two keys that sign: their private halves never leave the vault.
resource "azurerm_key_vault_key" "this" {
  for_each = var.names

  name         = each.value
  key_vault_id = var.vault_id
  key_type     = "EC"
  curve        = "P-256"
  key_opts     = ["sign", "verify"]
  tags         = var.tags
}
