# What the clusters write, the traces, who is told, and the rule that keeps every scored record in the lake.
resource "azurerm_log_analytics_workspace" "this" {
  name                         = var.name
  resource_group_name          = var.group
  location                     = var.location
  sku                          = "PerGB2018"
  retention_in_days            = var.retention_days
  daily_quota_gb               = var.gigabytes_a_day
  local_authentication_enabled = false
  tags                         = var.tags
}

# The scoring servers' log lines, as an export that goes on for ever; nothing of before the rule is in it.
resource "azurerm_log_analytics_data_export_rule" "inference" {
  name                    = "inference"
  resource_group_name     = var.group
  workspace_resource_id   = azurerm_log_analytics_workspace.this.id
  destination_resource_id = var.export_target_id
  table_names             = ["ContainerLogV2"]
  enabled                 = true
}

resource "azurerm_application_insights" "this" {
  name                = var.insights_name
  resource_group_name = var.group
  location            = var.location
  workspace_id        = azurerm_log_analytics_workspace.this.id
  application_type    = "web"
  tags                = var.tags
}

resource "azurerm_monitor_action_group" "this" {
  name                = "${var.name}-alerts"
  resource_group_name = var.group
  short_name          = "lifecycle"
  tags                = var.tags

  email_receiver {
    name                    = "team"
    email_address           = var.alert_mail
    use_common_alert_schema = true
  }
}
