# Workbook and alert rules of one use case, as `make monitoring` renders them.
resource "azurerm_resource_group_template_deployment" "this" {
  name                = "${var.name}-monitoring"
  resource_group_name = var.group
  deployment_mode     = "Incremental"
  template_content    = var.template
  parameters_content = jsonencode({
    workspaceId   = { value = var.workspace_id }
    actionGroupId = { value = var.action_group_id }
    location      = { value = var.location }
  })
  tags = var.tags
}
