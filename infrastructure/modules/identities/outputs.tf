output "ids" {
  description = "Resource ids."
  value       = { for key, identity in azurerm_user_assigned_identity.this : key => identity.id }
}

output "principal_ids" {
  description = "Object ids in Entra, which roles and Kubernetes' RoleBindings are given to."
  value       = { for key, identity in azurerm_user_assigned_identity.this : key => identity.principal_id }
}

output "client_ids" {
  description = "Client ids, by which a process says who it is."
  value       = { for key, identity in azurerm_user_assigned_identity.this : key => identity.client_id }
}
