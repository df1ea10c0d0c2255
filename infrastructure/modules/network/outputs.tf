output "id" {
  description = "Resource id of the network."
  value       = azurerm_virtual_network.this.id
}

output "subnets" {
  description = "Resource ids of the subnets, by name."
  value       = { for key, subnet in azurerm_subnet.this : key => subnet.id }
}
