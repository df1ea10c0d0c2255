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

variable "tenant_id" {
  description = "Entra tenant whose tokens are taken."
  type        = string
}

variable "vault_url" {
  description = "The vault of the scoring servers' key."
  type        = string
}

variable "may_read" {
  description = "Ids of the role assignments by which it reads that key: they have to be there before."
  type        = list(string)
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
