# One group for each thing that is taken down, paid and guarded apart.
resource "azurerm_resource_group" "this" {
  for_each = var.names

  name     = each.value
  location = var.location
  tags     = var.tags
}
