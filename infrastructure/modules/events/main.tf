# What happens in the lake and in the image registry, as CloudEvents in the queue.
resource "azurerm_eventgrid_system_topic" "lake" {
  name                = "lake"
  resource_group_name = var.lake_group
  location            = var.location
  source_resource_id  = var.lake_id
  topic_type          = "Microsoft.Storage.StorageAccounts"
  tags                = var.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [var.identity_id]
  }
}

resource "azurerm_eventgrid_system_topic" "registry" {
  name                = "registry"
  resource_group_name = var.registry_group
  location            = var.location
  source_resource_id  = var.registry_id
  topic_type          = "Microsoft.ContainerRegistry.Registries"
  tags                = var.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [var.identity_id]
  }
}

resource "azurerm_eventgrid_system_topic_event_subscription" "files" {
  name                          = "files"
  system_topic                  = azurerm_eventgrid_system_topic.lake.name
  resource_group_name           = var.lake_group
  event_delivery_schema         = "CloudEventSchemaV1_0"
  included_event_types          = ["Microsoft.Storage.BlobCreated"]
  service_bus_queue_endpoint_id = var.queue_id

  # CreateFile comes before the content does.
  advanced_filter {
    string_not_in {
      key    = "data.api"
      values = ["CreateFile"]
    }
    string_begins_with {
      key    = "subject"
      values = [for name in var.watched_containers : "/blobServices/default/containers/${name}/"]
    }
  }

  delivery_identity {
    type                   = "UserAssigned"
    user_assigned_identity = var.identity_id
  }

  dead_letter_identity {
    type                   = "UserAssigned"
    user_assigned_identity = var.identity_id
  }

  storage_blob_dead_letter_destination {
    storage_account_id          = var.lake_id
    storage_blob_container_name = var.dead_letter_container
  }

  retry_policy {
    max_delivery_attempts = 30
    event_time_to_live    = 1440
  }
}

resource "azurerm_eventgrid_system_topic_event_subscription" "images" {
  name                          = "images"
  system_topic                  = azurerm_eventgrid_system_topic.registry.name
  resource_group_name           = var.registry_group
  event_delivery_schema         = "CloudEventSchemaV1_0"
  included_event_types          = ["Microsoft.ContainerRegistry.ImagePushed"]
  service_bus_queue_endpoint_id = var.queue_id

  # A signature is pushed as a tag of its own.
  advanced_filter {
    string_not_ends_with {
      key    = "subject"
      values = [".sig"]
    }
  }

  delivery_identity {
    type                   = "UserAssigned"
    user_assigned_identity = var.identity_id
  }

  dead_letter_identity {
    type                   = "UserAssigned"
    user_assigned_identity = var.identity_id
  }

  storage_blob_dead_letter_destination {
    storage_account_id          = var.lake_id
    storage_blob_container_name = var.dead_letter_container
  }

  retry_policy {
    max_delivery_attempts = 30
    event_time_to_live    = 1440
  }
}
