# The clusters' nodes, each cluster in a subnet of its own, and the database, which has no public address.
resource "azurerm_virtual_network" "this" {
  name                = var.name
  resource_group_name = var.group
  location            = var.location
  address_space       = ["10.40.0.0/16"]
  tags                = var.tags
}

locals {
  subnets = {
    staging    = { range = "10.40.0.0/22", endpoints = [], delegated_to = [] }
    production = { range = "10.40.4.0/22", endpoints = ["Microsoft.KeyVault"], delegated_to = [] }
    database   = { range = "10.40.8.0/27", endpoints = [], delegated_to = ["Microsoft.DBforPostgreSQL/flexibleServers"] }
  }
}

resource "azurerm_subnet" "this" {
  for_each = local.subnets

  name                 = each.key
  resource_group_name  = var.group
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [each.value.range]
  service_endpoints    = each.value.endpoints

  dynamic "delegation" {
    for_each = each.value.delegated_to

    content {
      name = "delegation"

      service_delegation {
        name    = delegation.value
        actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
      }
    }
  }
}

# Without rules of its own a group denies what comes from the internet; AKS adds those of its load balancers elsewhere.
resource "azurerm_network_security_group" "this" {
  for_each = local.subnets

  name                = "${var.name}-${each.key}"
  resource_group_name = var.group
  location            = var.location
  tags                = var.tags
}

resource "azurerm_network_security_rule" "web" {
  for_each = toset(["staging", "production"])

  name                        = "web"
  resource_group_name         = var.group
  network_security_group_name = azurerm_network_security_group.this[each.key].name
  description                 = "The ingress controller, whose load balancer keeps the callers' addresses."
  priority                    = 100
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_address_prefixes     = var.callers
  source_port_range           = "*"
  destination_address_prefix  = "*"
  destination_port_range      = "443"
}

# Within a network everybody reaches everybody, unless a rule says otherwise. What is tried has no way to what counts.
resource "azurerm_network_security_rule" "apart" {
  for_each = toset(["production", "database"])

  name                        = "not-from-staging"
  resource_group_name         = var.group
  network_security_group_name = azurerm_network_security_group.this[each.key].name
  description                 = "Staging's nodes and pods reach neither production's nor Airflow's database."
  priority                    = 200
  direction                   = "Inbound"
  access                      = "Deny"
  protocol                    = "*"
  source_address_prefix       = local.subnets.staging.range
  source_port_range           = "*"
  destination_address_prefix  = "*"
  destination_port_range      = "*"
}

resource "azurerm_subnet_network_security_group_association" "this" {
  for_each = local.subnets

  subnet_id                 = azurerm_subnet.this[each.key].id
  network_security_group_id = azurerm_network_security_group.this[each.key].id
}
