output "host" {
  description = "Where the database is reached from the network."
  value       = azurerm_postgresql_flexible_server.this.fqdn
}
