# The two environments, side by side: what differs between them stands here and nowhere else.
locals {
  sizes = {
    small = {
      guarded             = false # may be taken down with everything in it
      replication         = "LRS"
      registry_sku        = "Standard"
      node_size           = "Standard_D2s_v5"
      node_count          = 2
      cluster_tier        = "Free"
      database_sku        = "B_Standard_B1ms"
      database_storage_mb = 32768
      log_days            = 30
      log_gigabytes_a_day = 1
      exported_days       = 30
      deleted_days        = 7
      api_management      = false
    }
    full = {
      guarded             = true
      replication         = "ZRS"
      registry_sku        = "Premium"
      node_size           = "Standard_D4s_v5"
      node_count          = 3
      cluster_tier        = "Standard"
      database_sku        = "GP_Standard_D2s_v3"
      database_storage_mb = 65536
      log_days            = 90
      log_gigabytes_a_day = 10
      exported_days       = 180
      deleted_days        = 90
      api_management      = true
    }
  }
  size = local.sizes[var.environment]

  prefix  = "${var.name}-${var.environment}"
  compact = "${var.name}${var.environment}"

  # Every name that people or settings use. docs/azure.md lists them too, and `make test` compares the two.
  names = {
    platform_group     = "${local.prefix}-platform"
    data_group         = "${local.prefix}-data"
    serving_group      = "${local.prefix}-serving"
    qa_group           = "${local.prefix}-qa"
    network            = "${local.prefix}-network"
    staging_cluster    = "${local.prefix}-staging"
    production_cluster = "${local.prefix}-production"
    workspace          = "${local.prefix}-databricks"
    access_connector   = "${local.prefix}-connector"
    signing_connector  = "${local.prefix}-signing"
    signing_credential = "${local.prefix}-signing"
    lake               = "${local.compact}lake"
    image_registry     = "${local.compact}images"
    airflow_registry   = "${local.compact}airflow"
    log_workspace      = "${local.prefix}-logs"
    insights           = "${local.prefix}-insights"
    vault              = "${local.prefix}-kv"
    workers_vault      = "${local.prefix}-keys"
    bundle_key         = "bundle-signing"
    image_key          = "image-signing"
    event_namespace    = "${local.prefix}-events"
    event_queue        = "lifecycle-events"
    database           = "${local.prefix}-airflow"
    api_management     = "${local.prefix}-api"
    catalog            = "${var.name}_${var.environment}" # environments of one region share a metastore
  }

  # Airflow's pods, as its Helm chart names their accounts in namespace `airflow` of the production cluster.
  airflow_namespace = "airflow"
  airflow_accounts = {
    airflow   = ["airflow-api-server", "airflow-dag-processor", "airflow-scheduler"]
    triggerer = ["airflow-triggerer"]
    workers   = ["airflow-worker"]
  }

  # Where Airflow publishes the training code in the workspace.
  code_root = "/Shared/lifecycle/code"

  # Containers of the lake. The export writes into the one of its table's name.
  containers = {
    bronze       = "bronze"
    logs         = "am-containerlogv2"
    tables       = "tables"
    outcomes     = "outcomes"
    catalog      = "catalog"
    task_logs    = "airflow-logs"
    dead_letters = "dead-letters"
  }

  tags = {
    environment = var.environment
    part_of     = "lifecycle"
  }
}
