# For OpenTofu and Terraform: both know variables that are never stored (ephemeral) since 1.11. The providers' versions
# are those whose schemas lie in schemas/; `tofu init` writes their hashes into .terraform.lock.hcl: keep that file.
terraform {
  required_version = ">= 1.11.0"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "4.73.0"
    }
    databricks = {
      source  = "databricks/databricks"
      version = "1.132.0"
    }
  }

  # Which account holds the state is said at `init`, for it holds secrets: see docs/azure.md.
  backend "azurerm" {
    use_azuread_auth = true
  }
}

provider "azurerm" {
  subscription_id     = var.subscription_id
  storage_use_azuread = true

  features {
    resource_group {
      # Azure puts things of its own beside ours, which would stop a take-down.
      prevent_deletion_if_contains_resources = local.size.guarded
    }
    databricks_workspace {
      # Otherwise its managed group stays, with MLflow's files in it, and costs.
      force_delete = !local.size.guarded
    }
    log_analytics_workspace {
      permanently_delete_on_destroy = !local.size.guarded
    }
    key_vault {
      purge_soft_delete_on_destroy = !local.size.guarded
    }
  }
}

provider "databricks" {
  host                        = module.workspace.url
  azure_workspace_resource_id = module.workspace.id
}
