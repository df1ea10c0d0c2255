# Unity Catalog's side, and who Airflow is there.
terraform {
  required_providers {
    databricks = {
      source = "databricks/databricks"
    }
  }
}

locals {
  # All workspaces of a region have one metastore: only this one reaches what is made here.
  isolated = "ISOLATION_MODE_ISOLATED"

  address = { for key in ["bronze", "tables", "outcomes", "catalog"] : key => "abfss://${var.containers[key]}@${var.account}.dfs.core.windows.net/" }

  # Of each use case: where its files lie, and what Airflow's jobs may do with them.
  volumes = {
    bronze   = { place = "bronze", folder = "arrivals", privileges = ["READ_VOLUME"] }
    raw      = { place = "bronze", folder = "raw", privileges = ["READ_VOLUME"] }
    batch    = { place = "bronze", folder = "batch", privileges = ["READ_VOLUME"] }
    outcomes = { place = "outcomes", folder = "", privileges = ["READ_VOLUME"] }
    tables   = { place = "tables", folder = "", privileges = ["READ_VOLUME", "WRITE_VOLUME"] }
  }
  all_volumes = {
    for pair in setproduct(var.use_cases, keys(local.volumes)) :
    "${pair[0]}/${pair[1]}" => merge(local.volumes[pair[1]], { use_case = pair[0], name = pair[1] })
  }
}

resource "databricks_storage_credential" "this" {
  name           = "${var.name}-lake"
  comment        = "The access connector of this workspace"
  isolation_mode = local.isolated
  force_destroy  = !var.guarded

  azure_managed_identity {
    access_connector_id = var.connector_id
  }
}

resource "databricks_external_location" "this" {
  for_each = local.address

  name            = "${var.name}-${each.key}"
  url             = each.value
  credential_name = databricks_storage_credential.this.name
  isolation_mode  = local.isolated
  force_destroy   = !var.guarded
}

resource "databricks_catalog" "this" {
  name           = var.name
  storage_root   = databricks_external_location.this["catalog"].url
  comment        = "Models, and the files that they come from"
  isolation_mode = "ISOLATED"
  force_destroy  = !var.guarded
}

resource "databricks_schema" "this" {
  for_each = var.use_cases

  catalog_name  = databricks_catalog.this.name
  name          = each.key
  force_destroy = !var.guarded # with the models that Airflow registers in it
}

resource "databricks_volume" "this" {
  for_each = local.all_volumes

  catalog_name     = databricks_catalog.this.name
  schema_name      = databricks_schema.this[each.value.use_case].name
  name             = each.value.name
  volume_type      = "EXTERNAL"
  storage_location = join("/", compact([trimsuffix(databricks_external_location.this[each.value.place].url, "/"), each.value.use_case, each.value.folder]))
}

resource "databricks_service_principal" "airflow" {
  display_name     = "airflow"
  workspace_access = true
}

# The job's way to the key that signs bundles: whoever has ACCESS may sign with it.
resource "databricks_credential" "signing" {
  name           = var.signing.credential
  purpose        = "SERVICE"
  comment        = "The key that signs bundles"
  isolation_mode = local.isolated
  force_destroy  = !var.guarded

  azure_managed_identity {
    access_connector_id = var.signing.connector_id
  }
}

resource "databricks_grants" "signing" {
  credential = databricks_credential.signing.id

  grant {
    principal  = databricks_service_principal.airflow.application_id
    privileges = ["ACCESS"]
  }
}

# It lies in the state and in the vault. `tofu apply -replace` makes another one: see docs/azure.md.
resource "databricks_service_principal_secret" "airflow" {
  service_principal_id = databricks_service_principal.airflow.id
}

resource "databricks_grants" "catalog" {
  catalog = databricks_catalog.this.name

  grant {
    principal  = databricks_service_principal.airflow.application_id
    privileges = ["USE_CATALOG"]
  }
}

resource "databricks_grants" "schema" {
  for_each = var.use_cases

  schema = databricks_schema.this[each.key].id

  grant {
    principal  = databricks_service_principal.airflow.application_id
    privileges = ["USE_SCHEMA", "CREATE_MODEL", "CREATE_MODEL_VERSION"]
  }
}

resource "databricks_grants" "volume" {
  for_each = local.all_volumes

  volume = databricks_volume.this[each.key].id

  grant {
    principal  = databricks_service_principal.airflow.application_id
    privileges = each.value.privileges
  }
}

# Where Airflow publishes the training code.
resource "databricks_directory" "code" {
  path             = var.code_root
  delete_recursive = !var.guarded
}

resource "databricks_permissions" "code" {
  directory_path = databricks_directory.code.path

  access_control {
    service_principal_name = databricks_service_principal.airflow.application_id
    permission_level       = "CAN_MANAGE"
  }
}
