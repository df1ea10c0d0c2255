# What comes after `apply` takes from here: `tofu output -raw settings >config/mine.toml`.
locals {
  settings_file = templatefile("${path.module}/settings.toml", {
    environment   = var.environment
    airflow_url   = var.airflow_url
    mlflow_url    = "${module.workspace.url}/ml"
    approval_keys = var.approval_keys
    signing       = local.names.signing_credential
    bundle_key    = module.keys.urls["bundle"]
    image_key     = module.keys.urls["image"]
    bundle_public = module.keys.public["bundle"]
    image_public  = module.keys.public["image"]
    bundle_keys   = var.earlier_bundle_keys
    image_keys    = var.earlier_image_keys
    prices        = var.prices
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

  # No prefix, no calls for what is not kept there.
  vault_backend = {
    connections_prefix = "airflow-connections"
    variables_prefix   = null
    config_prefix      = null
    vault_url          = module.vault.url
  }
}

output "settings" {
  description = "The settings file of this environment, for LIFECYCLE_SETTINGS."
  value       = local.settings_file
}

output "secrets_backend" {
  description = "The value of AIRFLOW__SECRETS__BACKEND_KWARGS, for every component."
  value       = jsonencode(local.vault_backend)
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

output "airflow_values" {
  description = "Where Airflow runs: the second values file of its Helm chart, for delivery/roll_out.sh."
  value = templatefile("${path.module}/airflow.yaml", {
    airflow       = module.identities.client_ids["airflow"]
    triggerer     = module.identities.client_ids["triggerer"]
    workers       = module.identities.client_ids["workers"]
    airflow_url   = var.airflow_url
    vault         = jsonencode(local.vault_backend)
    workers_vault = jsonencode(merge(local.vault_backend, { vault_url = module.workers_vault.url }))
    settings      = yamlencode({ "settings.toml" = local.settings_file })
  })
}

output "cluster_users" {
  description = "Object ids that the RoleBindings of k8s/rbac name as users: workers make pods, the triggerer waits for them."
  value       = { for identity in ["triggerer", "workers"] : identity => module.identities.principal_ids[identity] }
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
