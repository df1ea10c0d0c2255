output "id" {
  description = "Resource id of the account."
  value       = azurerm_storage_account.this.id
}

output "name" {
  description = "Name of the account."
  value       = azurerm_storage_account.this.name
}

output "blob_url" {
  description = "Where blobs are read."
  value       = azurerm_storage_account.this.primary_blob_endpoint
}

output "containers" {
  description = "Resource ids of the containers, by what they are for."
  value       = { for key, container in azurerm_storage_container.this : key => container.id }
}
