# An AKS cluster whose doors are Entra's: no local accounts, rights by Azure's roles and Kubernetes' own.
resource "azurerm_kubernetes_cluster" "this" {
  name                         = var.name
  resource_group_name          = var.group
  location                     = var.location
  dns_prefix                   = var.name
  sku_tier                     = var.tier
  local_account_disabled       = true
  oidc_issuer_enabled          = true
  workload_identity_enabled    = true
  azure_policy_enabled         = true
  run_command_enabled          = false
  automatic_upgrade_channel    = "patch"
  node_os_upgrade_channel      = "NodeImage"
  image_cleaner_enabled        = true
  image_cleaner_interval_hours = 168
  tags                         = var.tags

  azure_active_directory_role_based_access_control {
    azure_rbac_enabled     = true
    admin_group_object_ids = [var.admins]
    tenant_id              = var.tenant_id
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [var.identity_id]
  }

  default_node_pool {
    name                        = "nodes"
    vm_size                     = var.node_size
    node_count                  = var.node_count
    vnet_subnet_id              = var.subnet_id
    max_pods                    = 110
    temporary_name_for_rotation = "rotating"

    upgrade_settings {
      max_surge = "1"
    }
  }

  network_profile {
    network_plugin      = "azure"
    network_plugin_mode = "overlay"
    network_policy      = "azure"
  }

  # The ingress controller, in namespace app-routing-system, which k8s/rbac/network.yaml lets in.
  web_app_routing {
    dns_zone_ids = []
  }

  oms_agent {
    log_analytics_workspace_id      = var.log_id
    msi_auth_for_monitoring_enabled = true
  }

  dynamic "api_server_access_profile" {
    for_each = length(var.api_server_ranges) > 0 ? [var.api_server_ranges] : []

    content {
      authorized_ip_ranges = api_server_access_profile.value
    }
  }
}

# Container insights: the log lines of the listed namespaces, in the schema that the nightly run reads.
resource "azurerm_monitor_data_collection_rule" "containers" {
  name                = "${var.name}-containers"
  resource_group_name = var.group
  location            = var.location
  kind                = "Linux"
  tags                = var.tags

  destinations {
    log_analytics {
      name                  = "workspace"
      workspace_resource_id = var.log_id
    }
  }

  data_flow {
    streams      = local.streams
    destinations = ["workspace"]
  }

  data_sources {
    extension {
      name           = "ContainerInsightsExtension"
      extension_name = "ContainerInsights"
      streams        = local.streams
      extension_json = jsonencode({
        dataCollectionSettings = {
          interval               = "1m"
          namespaceFilteringMode = "Include"
          namespaces             = var.collected_namespaces
          enableContainerLogV2   = true
        }
      })
    }
  }
}

locals {
  streams = ["Microsoft-ContainerLogV2", "Microsoft-KubeEvents", "Microsoft-KubePodInventory"]
}

resource "azurerm_monitor_data_collection_rule_association" "containers" {
  name                    = "ContainerInsightsExtension" # the agent looks for this name
  target_resource_id      = azurerm_kubernetes_cluster.this.id
  data_collection_rule_id = azurerm_monitor_data_collection_rule.containers.id
}

# Who did what to the cluster.
resource "azurerm_monitor_diagnostic_setting" "audit" {
  name                       = "audit"
  target_resource_id         = azurerm_kubernetes_cluster.this.id
  log_analytics_workspace_id = var.log_id

  enabled_log {
    category = "kube-audit-admin"
  }

  enabled_log {
    category = "guard"
  }
}
