# The workspace, and the identity by which Unity Catalog reaches the lake.
resource "azurerm_databricks_access_connector" "this" {
  name                = var.connector_name
  resource_group_name = var.group
  location            = var.location
  tags                = var.tags

  identity {
    type = "SystemAssigned"
  }
}

# Apart from it, the identity by which training reaches the key that signs bundles: it can do nothing else.
resource "azurerm_databricks_access_connector" "signing" {
  name                = var.signing_name
  resource_group_name = var.group
  location            = var.location
  tags                = var.tags

  identity {
    type = "SystemAssigned"
  }
}

resource "azurerm_databricks_workspace" "this" {
  name                        = var.name
  resource_group_name         = var.group
  location                    = var.location
  managed_resource_group_name = "${var.name}-managed"
  sku                         = "premium" # Unity Catalog wants it
  tags                        = var.tags

  custom_parameters {
    no_public_ip = true
  }
}
