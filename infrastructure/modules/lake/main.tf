# ADLS Gen2. Entra alone opens it: there are no keys, and nothing is public.
resource "azurerm_storage_account" "this" {
  name                              = var.name
  resource_group_name               = var.group
  location                          = var.location
  account_tier                      = "Standard"
  account_replication_type          = var.replication
  is_hns_enabled                    = true
  min_tls_version                   = "TLS1_2"
  https_traffic_only_enabled        = true
  shared_access_key_enabled         = false
  default_to_oauth_authentication   = true
  local_user_enabled                = false
  allow_nested_items_to_be_public   = false
  infrastructure_encryption_enabled = true
  tags                              = var.tags

  blob_properties {
    delete_retention_policy {
      days = var.deleted_days
    }
    container_delete_retention_policy {
      days = var.deleted_days
    }
  }
}

# What is appended to and never read again goes by itself.
resource "azurerm_storage_management_policy" "this" {
  storage_account_id = azurerm_storage_account.this.id

  dynamic "rule" {
    for_each = var.kept

    content {
      name    = "delete-${rule.key}"
      enabled = true

      filters {
        blob_types   = ["appendBlob"]
        prefix_match = ["${rule.key}/"]
      }

      actions {
        base_blob {
          delete_after_days_since_modification_greater_than = rule.value
        }
      }
    }
  }
}

resource "azurerm_storage_container" "this" {
  for_each = var.containers

  name                  = each.value
  storage_account_id    = azurerm_storage_account.this.id
  container_access_type = "private"
}
