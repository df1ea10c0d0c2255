# Airflow's own database, reachable from the network alone.
resource "azurerm_private_dns_zone" "this" {
  name                = "${var.name}.private.postgres.database.azure.com"
  resource_group_name = var.group
  tags                = var.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  name                  = "network"
  resource_group_name   = var.group
  private_dns_zone_name = azurerm_private_dns_zone.this.name
  virtual_network_id    = var.network_id
  tags                  = var.tags
}

resource "azurerm_postgresql_flexible_server" "this" {
  depends_on = [azurerm_private_dns_zone_virtual_network_link.this]

  name                              = var.name
  resource_group_name               = var.group
  location                          = var.location
  version                           = "16"
  sku_name                          = var.sku
  storage_mb                        = var.storage_mb
  auto_grow_enabled                 = true
  backup_retention_days             = 14
  geo_redundant_backup_enabled      = var.guarded
  delegated_subnet_id               = var.subnet_id
  private_dns_zone_id               = azurerm_private_dns_zone.this.id
  public_network_access_enabled     = false
  administrator_login               = "airflow"
  administrator_password_wo         = var.password
  administrator_password_wo_version = var.password_version
  tags                              = var.tags

  lifecycle {
    ignore_changes = [zone] # Azure chooses one
  }
}

# Who connects and when data reaches the disk is logged; whoever guesses passwords is slowed down.
resource "azurerm_postgresql_flexible_server_configuration" "this" {
  for_each = toset(["log_connections", "log_checkpoints", "connection_throttle.enable"])

  name      = each.key
  server_id = azurerm_postgresql_flexible_server.this.id
  value     = "on"
}

resource "azurerm_postgresql_flexible_server_database" "airflow" {
  name      = "airflow"
  server_id = azurerm_postgresql_flexible_server.this.id
  charset   = "UTF8"
  collation = "en_US.utf8"
}
