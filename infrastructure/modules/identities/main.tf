# Everybody who acts without being a person. None has a secret.
resource "azurerm_user_assigned_identity" "this" {
  for_each = var.names

  name                = each.value
  resource_group_name = var.group
  location            = var.location
  tags                = var.tags
}
