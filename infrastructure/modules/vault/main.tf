resource "azurerm_key_vault" "this" {
  name                       = var.name
  resource_group_name        = var.group
  location                   = var.location
  tenant_id                  = var.tenant_id
  sku_name                   = "standard"
  rbac_authorization_enabled = true
  purge_protection_enabled   = var.guarded
  soft_delete_retention_days = var.deleted_days
  tags                       = var.tags

  network_acls {
    default_action             = "Deny"
    bypass                     = "AzureServices"
    ip_rules                   = var.ranges
    virtual_network_subnet_ids = [var.subnet_id]
  }
}

# Who read which secret, and when.
resource "azurerm_monitor_diagnostic_setting" "audit" {
  name                       = "audit"
  target_resource_id         = azurerm_key_vault.this.id
  log_analytics_workspace_id = var.log_id

  enabled_log {
    category = "AuditEvent"
  }
}
