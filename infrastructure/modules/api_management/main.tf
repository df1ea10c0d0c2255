# One door for callers outside: Entra tokens, a rate limit for each caller, problem documents for its own refusals.
resource "azurerm_api_management" "this" {
  name                = var.name
  resource_group_name = var.group
  location            = var.location
  publisher_name      = var.api.publisher_name
  publisher_email     = var.api.publisher_email
  sku_name            = "Developer_1"
  tags                = var.tags

  # Its own: to a vault with a firewall it comes with no other.
  identity {
    type = "SystemAssigned"
  }
}

resource "azurerm_api_management_named_value" "key" {
  depends_on = [var.may_read]

  name                = "scoring-key"
  display_name        = "scoring-key"
  resource_group_name = var.group
  api_management_name = azurerm_api_management.this.name
  secret              = true

  value_from_key_vault {
    secret_id = "${var.vault_url}secrets/${var.api.key_secret}"
  }
}

resource "azurerm_api_management_api" "scoring" {
  name                  = "scoring"
  display_name          = "Scoring"
  resource_group_name   = var.group
  api_management_name   = azurerm_api_management.this.name
  revision              = "1"
  path                  = "scoring"
  protocols             = ["https"]
  service_url           = var.api.scoring_url
  subscription_required = false # who calls is said by the token
}

resource "azurerm_api_management_api_operation" "predict" {
  operation_id        = "predict"
  display_name        = "Predict"
  api_name            = azurerm_api_management_api.scoring.name
  api_management_name = azurerm_api_management.this.name
  resource_group_name = var.group
  method              = "POST"
  url_template        = "/predict"
}

resource "azurerm_api_management_api_policy" "scoring" {
  depends_on = [azurerm_api_management_named_value.key]

  api_name            = azurerm_api_management_api.scoring.name
  api_management_name = azurerm_api_management.this.name
  resource_group_name = var.group
  xml_content = templatefile("${path.module}/policy.xml", {
    tenant_id      = var.tenant_id
    audience       = var.api.audience
    callers        = var.api.callers
    calls_a_minute = var.api.calls_a_minute
  })
}
