output "id" {
  description = "Resource id of the workspace."
  value       = azurerm_log_analytics_workspace.this.id
}

output "action_group_id" {
  description = "Resource id of whom alerts go to."
  value       = azurerm_monitor_action_group.this.id
}

output "insights_connection_string" {
  description = "Where traces are sent to."
  value       = azurerm_application_insights.this.connection_string
  sensitive   = true
}
