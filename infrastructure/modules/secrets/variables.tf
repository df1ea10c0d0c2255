variable "vault_id" {
  description = "Resource id of the vault."
  type        = string
}

variable "databricks" {
  description = "The workspace, and who Airflow is in it."
  type = object({
    url           = string
    client_id     = string
    client_secret = string
  })
}

variable "registry" {
  description = "The registry that the release builds into."
  type = object({
    host            = string
    subscription_id = string
    group           = string
  })
}

variable "kube_configs" {
  description = "How the clusters are reached."
  type = object({
    staging    = string
    production = string
  })
}

variable "lake" {
  description = "The storage account."
  type = object({
    name     = string
    blob_url = string
  })
}

variable "qa" {
  description = "Where images are tried, and the identity that pulls them there."
  type = object({
    group       = string
    region      = string
    identity_id = string
  })
}

variable "event_host" {
  description = "Where events are received."
  type        = string
}

variable "database_host" {
  description = "Where the database is reached."
  type        = string
}

variable "database_password" {
  description = "Password of the user airflow."
  type        = string
  ephemeral   = true
  sensitive   = true
}

variable "database_password_version" {
  description = "Another number writes the secret again."
  type        = number
}

variable "insights_connection_string" {
  description = "Where traces are sent to."
  type        = string
  sensitive   = true
}
