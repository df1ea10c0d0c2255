output "id" {
  description = "Resource id of the workspace."
  value       = azurerm_databricks_workspace.this.id
}

output "url" {
  description = "Where people and programs open the workspace."
  value       = "https://${azurerm_databricks_workspace.this.workspace_url}"
}

output "connector_id" {
  description = "Resource id of the access connector."
  value       = azurerm_databricks_access_connector.this.id
}

output "connector_principal_id" {
  description = "Object id of the access connector's identity."
  value       = azurerm_databricks_access_connector.this.identity[0].principal_id
}

output "signing_connector_id" {
  description = "Resource id of the access connector that signs."
  value       = azurerm_databricks_access_connector.signing.id
}

output "signing_connector_principal_id" {
  description = "Object id of its identity."
  value       = azurerm_databricks_access_connector.signing.identity[0].principal_id
}
