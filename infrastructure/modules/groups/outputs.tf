output "ids" {
  description = "Resource ids, by what the group is for."
  value       = { for key, group in azurerm_resource_group.this : key => group.id }
}

output "names" {
  description = "Names, known once the group is there."
  value       = { for key, group in azurerm_resource_group.this : key => group.name }
}
