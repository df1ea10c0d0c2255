# Who may do what: every role assignment of this configuration, in words. docs/azure.md lists the same and says why;
# `make test` compares the two, knows the built-in roles (schemas/roles.json), and refuses a role assignment elsewhere.
locals {
  # What has to hold before something else can be made.
  roles_before = [
    { who = "staging cluster", role = "Network Contributor", on = "staging subnet" },
    { who = "production cluster", role = "Network Contributor", on = "production subnet" },
    { who = "events", role = "Azure Service Bus Data Sender", on = "event queue" },
    { who = "events", role = "Storage Blob Data Contributor", on = "container dead-letters" },
    { who = "who applies", role = "Key Vault Secrets Officer", on = "vault" },
    { who = "who applies", role = "Key Vault Crypto Officer", on = "vault" },
    { who = "key keeper", role = "Key Vault Secrets Officer", on = "workers' vault" },
    { who = "airflow", role = "Key Vault Secrets User", on = "vault" },
    { who = "triggerer", role = "Key Vault Secrets User", on = "vault" },
    { who = "workers", role = "Key Vault Secrets User", on = "workers' vault" },
    { who = "workers", role = "Container Registry Tasks Contributor", on = "image registry" },
    { who = "workers", role = "AcrPush", on = "image registry" },
    { who = "workers", role = "Storage Blob Data Reader", on = "container am-containerlogv2" },
    { who = "workers", role = "Storage Blob Data Contributor", on = "container tables" },
    { who = "workers", role = "Storage Blob Data Reader", on = "container bronze" },
    { who = "workers", role = "Storage Blob Data Reader", on = "container outcomes" },
    { who = "airflow", role = "Storage Blob Data Reader", on = "container airflow-logs" },
    { who = "triggerer", role = "Storage Blob Data Contributor", on = "container airflow-logs" },
    { who = "workers", role = "Storage Blob Data Contributor", on = "container airflow-logs" },
    { who = "triggerer", role = "Azure Service Bus Data Receiver", on = "event queue" },
    { who = "workers", role = "Azure Container Instances Contributor Role", on = "qa group" },
    { who = "workers", role = "Managed Identity Operator", on = "container instances' identity" },
    { who = "container instances", role = "AcrPull", on = "image registry" },
    { who = "pipeline", role = "AcrPush", on = "airflow registry" },
  ]

  # Only where there is an API Management, once it is there: it reads this one secret of the vault.
  roles_api_management = [
    { who = "api management", role = "Key Vault Secrets User", on = "scoring key" },
  ]

  # What is about clusters and the workspace, once they are there.
  roles_after = [
    { who = "workers", role = "Key Vault Crypto User", on = "image key" },
    { who = "signing connector", role = "Key Vault Crypto User", on = "bundle key" },
    { who = "staging nodes", role = "AcrPull", on = "image registry" },
    { who = "production nodes", role = "AcrPull", on = "image registry" },
    { who = "production nodes", role = "AcrPull", on = "airflow registry" },
    { who = "access connector", role = "Storage Blob Data Contributor", on = "container bronze" },
    { who = "access connector", role = "Storage Blob Data Contributor", on = "container tables" },
    { who = "access connector", role = "Storage Blob Data Contributor", on = "container outcomes" },
    { who = "access connector", role = "Storage Blob Data Contributor", on = "container catalog" },
    { who = "access connector", role = "Storage Blob Delegator", on = "lake" },
    { who = "cluster admins", role = "Azure Kubernetes Service RBAC Cluster Admin", on = "staging cluster" },
    { who = "cluster admins", role = "Azure Kubernetes Service RBAC Cluster Admin", on = "production cluster" },
    { who = "cluster admins", role = "Azure Kubernetes Service Cluster User Role", on = "staging cluster" },
    { who = "cluster admins", role = "Azure Kubernetes Service Cluster User Role", on = "production cluster" },
    { who = "pipeline", role = "Azure Kubernetes Service Cluster User Role", on = "production cluster" },
    { who = "pipeline", role = "Azure Kubernetes Service RBAC Admin", on = "airflow namespace" },
  ]

  # Azure looks these up by itself; of identities that are seconds old it has to be told what they are.
  people = ["who applies", "key keeper", "cluster admins"]

  principals_before = {
    "airflow"             = module.identities.principal_ids["airflow"]
    "triggerer"           = module.identities.principal_ids["triggerer"]
    "workers"             = module.identities.principal_ids["workers"]
    "pipeline"            = module.identities.principal_ids["pipeline"]
    "container instances" = module.identities.principal_ids["container_instances"]
    "events"              = module.identities.principal_ids["events"]
    "staging cluster"     = module.identities.principal_ids["staging_cluster"]
    "production cluster"  = module.identities.principal_ids["production_cluster"]
    "who applies"         = data.azurerm_client_config.current.object_id
    "key keeper"          = var.key_keeper
  }

  places_before = {
    "image registry"                = module.image_registry.id
    "airflow registry"              = module.airflow_registry.id
    "vault"                         = module.vault.id
    "workers' vault"                = module.workers_vault.id
    "staging subnet"                = module.network.subnets["staging"]
    "production subnet"             = module.network.subnets["production"]
    "event queue"                   = module.queue.id
    "qa group"                      = module.groups.ids["qa"]
    "container instances' identity" = module.identities.ids["container_instances"]
    "container am-containerlogv2"   = module.lake.containers["logs"]
    "container bronze"              = module.lake.containers["bronze"]
    "container outcomes"            = module.lake.containers["outcomes"]
    "container tables"              = module.lake.containers["tables"]
    "container airflow-logs"        = module.lake.containers["task_logs"]
    "container dead-letters"        = module.lake.containers["dead_letters"]
  }

  principals_after = {
    "workers"           = module.identities.principal_ids["workers"]
    "staging nodes"     = module.staging_cluster.node_principal_id
    "production nodes"  = module.production_cluster.node_principal_id
    "access connector"  = module.workspace.connector_principal_id
    "signing connector" = module.workspace.signing_connector_principal_id
    "cluster admins"    = var.cluster_admins
    "pipeline"          = module.identities.principal_ids["pipeline"]
  }

  places_after = {
    "bundle key"         = module.keys.ids["bundle"]
    "image key"          = module.keys.ids["image"]
    "image registry"     = module.image_registry.id
    "airflow registry"   = module.airflow_registry.id
    "container bronze"   = module.lake.containers["bronze"]
    "container tables"   = module.lake.containers["tables"]
    "container outcomes" = module.lake.containers["outcomes"]
    "container catalog"  = module.lake.containers["catalog"]
    "lake"               = module.lake.id
    "staging cluster"    = module.staging_cluster.id
    "production cluster" = module.production_cluster.id
    "airflow namespace"  = "${module.production_cluster.id}/namespaces/${local.airflow_namespace}"
  }

  principals_api_management = {
    # Not the module as a whole, which waits for this right.
    "api management" = local.size.api_management ? module.api_management[0].principal_id : null
  }

  places_api_management = {
    "scoring key" = var.api == null ? null : "${module.vault.id}/secrets/${var.api.key_secret}"
  }
}

resource "azurerm_role_assignment" "before" {
  for_each = { for entry in local.roles_before : "${entry.who}: ${entry.role} on ${entry.on}" => entry }

  principal_id         = local.principals_before[each.value.who]
  principal_type       = contains(local.people, each.value.who) ? null : "ServicePrincipal"
  role_definition_name = each.value.role
  scope                = local.places_before[each.value.on]
}

resource "azurerm_role_assignment" "after" {
  for_each = { for entry in local.roles_after : "${entry.who}: ${entry.role} on ${entry.on}" => entry }

  principal_id         = local.principals_after[each.value.who]
  principal_type       = contains(local.people, each.value.who) ? null : "ServicePrincipal"
  role_definition_name = each.value.role
  scope                = local.places_after[each.value.on]
}

resource "azurerm_role_assignment" "api_management" {
  for_each = {
    for entry in local.size.api_management ? local.roles_api_management : [] :
    "${entry.who}: ${entry.role} on ${entry.on}" => entry
  }

  principal_id         = local.principals_api_management[each.value.who]
  principal_type       = "ServicePrincipal"
  role_definition_name = each.value.role
  scope                = local.places_api_management[each.value.on]
}
