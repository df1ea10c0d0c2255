output "principal_id" {
  description = "Object id of its identity, which reads the scoring servers' key."
  value       = azurerm_api_management.this.identity[0].principal_id
}
