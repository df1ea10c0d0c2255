output "id" {
  description = "Resource id of the queue."
  value       = azurerm_servicebus_queue.this.id
}

output "host" {
  description = "Where messages are received."
  value       = "${azurerm_servicebus_namespace.this.name}.servicebus.windows.net"
}
