resource "azurerm_container_registry" "this" {
  name                   = var.name
  resource_group_name    = var.group
  location               = var.location
  sku                    = var.sku
  admin_enabled          = false
  anonymous_pull_enabled = false
  tags                   = var.tags
}
