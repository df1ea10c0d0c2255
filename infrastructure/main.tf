data "azurerm_client_config" "current" {}

module "groups" {
  source = "./modules/groups"

  location = var.location
  names = {
    platform = local.names.platform_group
    data     = local.names.data_group
    serving  = local.names.serving_group
    qa       = local.names.qa_group
  }
  tags = local.tags
}

module "network" {
  source = "./modules/network"

  group    = module.groups.names.serving
  location = var.location
  name     = local.names.network
  callers  = var.callers
  tags     = local.tags
}

module "identities" {
  source = "./modules/identities"

  group    = module.groups.names.platform
  location = var.location
  names = {
    airflow             = "${local.prefix}-airflow"
    triggerer           = "${local.prefix}-triggerer"
    workers             = "${local.prefix}-workers"
    pipeline            = "${local.prefix}-pipeline"
    container_instances = "${local.prefix}-qa"
    events              = "${local.prefix}-events"
    staging_cluster     = local.names.staging_cluster
    production_cluster  = local.names.production_cluster
  }
  tags = local.tags
}

# Who may take an identity without a secret: Airflow's pods by their accounts, pipelines by their tokens.
module "federation" {
  source = "./modules/federation"

  credentials = merge(
    {
      for pair in flatten([
        for identity, accounts in local.airflow_accounts : [
          for account in accounts : { identity = identity, account = account }
        ]
        ]) : pair.account => {
        identity = module.identities.ids[pair.identity]
        issuer   = module.production_cluster.issuer
        subject  = "system:serviceaccount:${local.airflow_namespace}:${pair.account}"
      }
    },
    {
      for name, pipeline in var.pipelines : "pipeline-${name}" => {
        identity = module.identities.ids["pipeline"]
        issuer   = pipeline.issuer
        subject  = pipeline.subject
      }
    },
  )
}

module "logs" {
  source = "./modules/logs"

  group            = module.groups.names.platform
  location         = var.location
  name             = local.names.log_workspace
  insights_name    = local.names.insights
  retention_days   = local.size.log_days
  gigabytes_a_day  = local.size.log_gigabytes_a_day
  export_target_id = module.lake.id
  alert_mail       = var.alert_mail
  tags             = local.tags
}

module "lake" {
  source = "./modules/lake"

  group        = module.groups.names.data
  location     = var.location
  name         = local.names.lake
  replication  = local.size.replication
  containers   = local.containers
  deleted_days = local.size.deleted_days
  kept         = { (local.containers.logs) = local.size.exported_days }
  tags         = local.tags
}

# What the release builds has a registry of its own: ACR's tasks push images there, the workers signatures.
module "image_registry" {
  source = "./modules/registry"

  group    = module.groups.names.platform
  location = var.location
  name     = local.names.image_registry
  sku      = local.size.registry_sku
  tags     = local.tags
}

module "airflow_registry" {
  source = "./modules/registry"

  group    = module.groups.names.platform
  location = var.location
  name     = local.names.airflow_registry
  sku      = local.size.registry_sku
  tags     = local.tags
}

module "vault" {
  source = "./modules/vault"

  group        = module.groups.names.platform
  location     = var.location
  name         = local.names.vault
  tenant_id    = data.azurerm_client_config.current.tenant_id
  guarded      = local.size.guarded
  deleted_days = local.size.deleted_days
  ranges       = var.vault_ranges
  subnet_id    = module.network.subnets["production"]
  log_id       = module.logs.id
  tags         = local.tags
}

# The key that signs approvals lies apart: Airflow's workers may read this vault, and nobody else.
module "workers_vault" {
  source = "./modules/vault"

  group        = module.groups.names.platform
  location     = var.location
  name         = local.names.workers_vault
  tenant_id    = data.azurerm_client_config.current.tenant_id
  guarded      = local.size.guarded
  deleted_days = local.size.deleted_days
  ranges       = var.vault_ranges
  subnet_id    = module.network.subnets["production"]
  log_id       = module.logs.id
  tags         = local.tags
}

module "keys" {
  source     = "./modules/keys"
  depends_on = [azurerm_role_assignment.before]

  vault_id = module.vault.id
  names    = { bundle = local.names.bundle_key, image = local.names.image_key }
  tags     = local.tags
}

module "staging_cluster" {
  source     = "./modules/cluster"
  depends_on = [azurerm_role_assignment.before]

  group                = module.groups.names.serving
  location             = var.location
  name                 = local.names.staging_cluster
  tenant_id            = data.azurerm_client_config.current.tenant_id
  identity_id          = module.identities.ids["staging_cluster"]
  subnet_id            = module.network.subnets["staging"]
  node_size            = local.size.node_size
  node_count           = local.size.node_count
  tier                 = local.size.cluster_tier
  admins               = var.cluster_admins
  api_server_ranges    = var.api_server_ranges
  log_id               = module.logs.id
  collected_namespaces = ["lifecycle-airflow"] # all requests in staging are a release's own
  tags                 = local.tags
}

module "production_cluster" {
  source     = "./modules/cluster"
  depends_on = [azurerm_role_assignment.before]

  group                = module.groups.names.serving
  location             = var.location
  name                 = local.names.production_cluster
  tenant_id            = data.azurerm_client_config.current.tenant_id
  identity_id          = module.identities.ids["production_cluster"]
  subnet_id            = module.network.subnets["production"]
  node_size            = local.size.node_size
  node_count           = local.size.node_count
  tier                 = local.size.cluster_tier
  admins               = var.cluster_admins
  api_server_ranges    = var.api_server_ranges
  log_id               = module.logs.id
  collected_namespaces = [for name in var.use_cases : "${replace(name, "_", "-")}-production"]
  tags                 = local.tags
}

module "workspace" {
  source = "./modules/workspace"

  group          = module.groups.names.data
  location       = var.location
  name           = local.names.workspace
  connector_name = local.names.access_connector
  signing_name   = local.names.signing_connector
  tags           = local.tags
}

module "catalog" {
  source     = "./modules/catalog"
  depends_on = [azurerm_role_assignment.after]

  name         = local.names.catalog
  use_cases    = var.use_cases
  connector_id = module.workspace.connector_id
  signing = {
    credential   = local.names.signing_credential
    connector_id = module.workspace.signing_connector_id
  }
  account    = module.lake.name
  containers = local.containers
  code_root  = local.code_root
  guarded    = local.size.guarded
}

module "queue" {
  source = "./modules/queue"

  group           = module.groups.names.platform
  location        = var.location
  name            = local.names.event_namespace
  queue           = local.names.event_queue
  action_group_id = module.logs.action_group_id
  tags            = local.tags
}

module "events" {
  source     = "./modules/events"
  depends_on = [azurerm_role_assignment.before]

  location              = var.location
  lake_group            = module.groups.names.data
  lake_id               = module.lake.id
  registry_group        = module.groups.names.platform
  registry_id           = module.image_registry.id
  queue_id              = module.queue.id
  identity_id           = module.identities.ids["events"]
  watched_containers    = [local.containers.bronze, local.containers.outcomes]
  dead_letter_container = local.containers.dead_letters
  tags                  = local.tags
}

module "database" {
  source = "./modules/database"

  group            = module.groups.names.platform
  location         = var.location
  name             = local.names.database
  subnet_id        = module.network.subnets["database"]
  network_id       = module.network.id
  sku              = local.size.database_sku
  storage_mb       = local.size.database_storage_mb
  guarded          = local.size.guarded
  password         = var.database_password
  password_version = var.database_password_version
  tags             = local.tags
}

module "monitoring" {
  source   = "./modules/monitoring"
  for_each = var.use_cases

  group           = module.groups.names.platform
  location        = var.location
  name            = replace(each.key, "_", "-")
  template        = file("${path.root}/../monitoring/rendered/${each.key}/monitoring.json")
  workspace_id    = module.logs.id
  action_group_id = module.logs.action_group_id
  tags            = local.tags
}

module "api_management" {
  source     = "./modules/api_management"
  count      = local.size.api_management ? 1 : 0
  depends_on = [azurerm_role_assignment.before]

  group     = module.groups.names.serving
  location  = var.location
  name      = local.names.api_management
  tenant_id = data.azurerm_client_config.current.tenant_id
  vault_url = module.vault.url
  may_read  = values(azurerm_role_assignment.api_management)[*].id
  api       = var.api
  tags      = local.tags
}

module "secrets" {
  source     = "./modules/secrets"
  depends_on = [azurerm_role_assignment.before]

  vault_id = module.vault.id
  databricks = {
    url           = module.workspace.url
    client_id     = module.catalog.client_id
    client_secret = module.catalog.client_secret
  }
  registry = {
    host            = module.image_registry.login_server
    subscription_id = var.subscription_id
    group           = module.groups.names.platform
  }
  kube_configs = {
    staging    = module.staging_cluster.kube_config
    production = module.production_cluster.kube_config
  }
  lake = {
    name     = module.lake.name
    blob_url = module.lake.blob_url
  }
  qa = {
    group       = module.groups.names.qa
    region      = var.location
    identity_id = module.identities.ids["container_instances"]
  }
  event_host                 = module.queue.host
  database_host              = module.database.host
  database_password          = var.database_password
  database_password_version  = var.database_password_version
  insights_connection_string = module.logs.insights_connection_string
}
