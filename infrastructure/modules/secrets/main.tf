# Airflow's connections as JSON, by the names that its Key Vault backend looks for.
resource "azurerm_key_vault_secret" "connection" {
  for_each = toset(["databricks_default", "mlflow", "registry", "scoring_staging", "scoring_production", "logs", "events", "scoring_qa"])

  name         = "airflow-connections-${replace(each.key, "_", "-")}"
  key_vault_id = var.vault_id
  content_type = "application/json"
  value        = jsonencode(local.connections[each.key])
}

locals {
  databricks = {
    conn_type = "databricks"
    host      = var.databricks.url
    login     = var.databricks.client_id
    password  = var.databricks.client_secret
    extra     = { service_principal_oauth = true }
  }

  connections = {
    databricks_default = local.databricks
    mlflow             = local.databricks
    registry = {
      conn_type = "azure_container_registry"
      host      = var.registry.host
      extra = {
        subscription_id = var.registry.subscription_id
        resource_group  = var.registry.group
      }
    }
    scoring_staging    = { conn_type = "kubernetes", extra = { kube_config = var.kube_configs.staging } }
    scoring_production = { conn_type = "kubernetes", extra = { kube_config = var.kube_configs.production } }
    # The blob hook wants the address, `abfs://` paths the name; `anon` false makes both sign in as their pod.
    logs = {
      conn_type = "wasb"
      host      = var.lake.blob_url
      extra     = { account_name = var.lake.name, anon = false }
    }
    # An empty schema, not a missing one, makes it sign in with Entra.
    events = {
      conn_type = "azure_service_bus"
      schema    = ""
      extra     = { fully_qualified_namespace = var.event_host }
    }
    scoring_qa = {
      conn_type = "azure_container_instance"
      extra = {
        subscriptionId = var.registry.subscription_id
        resource_group = var.qa.group
        region         = var.qa.region
        pull_identity  = var.qa.identity_id
      }
    }
  }
}

# For Airflow's Helm chart: the pipeline's person copies them into Kubernetes' Secrets.
resource "azurerm_key_vault_secret" "database" {
  name             = "airflow-database"
  key_vault_id     = var.vault_id
  content_type     = "text/plain"
  value_wo         = var.database_password == null ? null : "postgresql+psycopg2://airflow:${var.database_password}@${var.database_host}/airflow?sslmode=require"
  value_wo_version = var.database_password_version
}

resource "azurerm_key_vault_secret" "insights" {
  name         = "application-insights"
  key_vault_id = var.vault_id
  content_type = "text/plain"
  value        = var.insights_connection_string
}
