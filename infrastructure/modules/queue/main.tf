# The one queue that all events go to. Events repeat, and what nobody could read is kept aside.
resource "azurerm_servicebus_namespace" "this" {
  name                = var.name
  resource_group_name = var.group
  location            = var.location
  sku                 = "Standard"
  local_auth_enabled  = false
  minimum_tls_version = "1.2"
  tags                = var.tags
}

resource "azurerm_servicebus_queue" "this" {
  name                                 = var.queue
  namespace_id                         = azurerm_servicebus_namespace.this.id
  lock_duration                        = "PT5M"
  max_delivery_count                   = 10
  requires_duplicate_detection         = true
  dead_lettering_on_message_expiration = true
}

resource "azurerm_monitor_metric_alert" "dead_letters" {
  name                = "${var.name}-dead-letters"
  resource_group_name = var.group
  scopes              = [azurerm_servicebus_namespace.this.id]
  description         = "Messages that Airflow could not read lie in the queue's dead letters."
  severity            = 2
  frequency           = "PT5M"
  window_size         = "PT15M"
  tags                = var.tags

  criteria {
    metric_namespace = "Microsoft.ServiceBus/namespaces"
    metric_name      = "DeadletteredMessages"
    aggregation      = "Maximum"
    operator         = "GreaterThan"
    threshold        = 0
  }

  action {
    action_group_id = var.action_group_id
  }
}
