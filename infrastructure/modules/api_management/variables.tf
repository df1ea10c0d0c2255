variable "group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the API Management."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}

variable "identity_id" {
  description = "Resource id of the identity that reads the key."
  type        = string
}

variable "identity_client_id" {
  description = "Client id of that identity."
  type        = string
}

variable "tenant_id" {
  description = "Entra tenant whose tokens are taken."
  type        = string
}

variable "vault_url" {
  description = "The vault of the scoring servers' key."
  type        = string
}

variable "api" {
  description = "Who publishes, what is behind it, and who may call how often."
  nullable    = false
  type = object({
    publisher_name  = string
    publisher_email = string
    scoring_url     = string
    audience        = string
    callers         = list(string)
    calls_a_minute  = number
    key_secret      = string
  })
}
