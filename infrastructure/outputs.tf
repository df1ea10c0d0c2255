# What comes after `apply` takes from here: `tofu output -raw settings >config/mine.toml`.
output "settings" {
  description = "The settings file of this environment, for LIFECYCLE_SETTINGS."
  value = templatefile("${path.module}/settings.toml", {
    environment   = var.environment
    airflow_url   = var.airflow_url
    mlflow_url    = "${module.workspace.url}/ml"
    approval_keys = var.approval_keys
    approvers     = var.approvers
    data_writers  = var.data_writers
    queue         = local.names.event_queue
    bronze        = local.containers.bronze
    outcomes      = local.containers.outcomes
    code_root     = local.code_root
    catalog       = local.names.catalog
    tables        = local.containers.tables
    logs          = local.containers.logs
  })
}

output "secrets_backend" {
  description = "The value of AIRFLOW__SECRETS__BACKEND_KWARGS, for every component."
  value = jsonencode({
    connections_prefix = "airflow-connections"
    variables_prefix   = null
    config_prefix      = null
    vault_url          = module.vault.url
  })
}

output "workers_vault" {
  description = "Where the key keeper puts the secret airflow-connections-approval-key."
  value       = module.workers_vault.url
}

output "airflow" {
  description = "Of Airflow's pods: namespace, and by service account the client id for its annotation."
  value = {
    namespace = local.airflow_namespace
    client_ids = merge([
      for identity, accounts in local.airflow_accounts :
      { for account in accounts : account => module.identities.client_ids[identity] }
    ]...)
  }
}

output "cluster_users" {
  description = "Object ids that the RoleBindings of k8s/rbac name as users."
  value       = { for identity in keys(local.airflow_accounts) : identity => module.identities.principal_ids[identity] }
}

output "pipeline" {
  description = "What a pipeline signs in with; there is no secret."
  value = {
    client_id        = module.identities.client_ids["pipeline"]
    tenant_id        = data.azurerm_client_config.current.tenant_id
    subscription_id  = var.subscription_id
    airflow_registry = module.airflow_registry.login_server
    cluster          = local.names.production_cluster
    group            = module.groups.names.serving
  }
}
