variable "environment" {
  description = "Which column of environments.tf is made: small or full."
  type        = string

  validation {
    condition     = contains(["small", "full"], var.environment)
    error_message = "The environment is small or full."
  }
}

variable "name" {
  description = "What every name begins with. Names of registries, storage accounts and vaults are unique in all of Azure."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{2,9}$", var.name))
    error_message = "The name has 3 to 10 characters, a to z and 0 to 9, and begins with a letter."
  }
}

variable "subscription_id" {
  description = "The subscription that pays."
  type        = string
}

variable "location" {
  description = "The region of everything: the export of logs wants workspace and storage account in one."
  type        = string
}

variable "use_cases" {
  description = "The use cases' names, as the folders in use_cases/ have them."
  type        = set(string)

  validation {
    condition     = alltrue([for name in var.use_cases : can(regex("^[a-z][a-z0-9_]*$", name))])
    error_message = "A use case's name has a to z, 0 to 9 and _, and begins with a letter."
  }
}

variable "airflow_url" {
  description = "Where people open Airflow."
  type        = string
}

variable "approvers" {
  description = "Who may answer the gate: ids or names of Airflow's users."
  type        = list(string)

  validation {
    condition     = length(var.approvers) > 0
    error_message = "Name at least one approver: without one, everybody who may edit the DAG may approve."
  }
}

variable "data_writers" {
  description = "Who may write new files: ids or names of Airflow's users. They do not approve what those have led to."
  type        = list(string)
}

variable "approval_keys" {
  description = "The lines that `make approval-key` prints, one for each public key, in one text."
  type        = string
}

variable "earlier_bundle_keys" {
  description = "Lines of bundle_keys in the settings file that count beside the newest version's: keys of before a rotation."
  type        = string
  default     = ""
}

variable "earlier_image_keys" {
  description = "The same of image_keys."
  type        = string
  default     = ""
}

variable "prices" {
  description = "Lines of the settings' table [prices], in one text: what Azure's meters cost you. Empty: no amounts."
  type        = string
  default     = ""
}

variable "alert_mail" {
  description = "The mail address that Azure's alerts go to."
  type        = string
}

variable "cluster_admins" {
  description = "Object id of the Entra group whose members administer the clusters. There are no local accounts."
  type        = string
}

variable "key_keeper" {
  description = "Object id of the person or group who puts the key that signs approvals into the workers' vault."
  type        = string
}

variable "api_server_ranges" {
  description = "Address ranges that may reach the clusters' API servers; empty: any that signs in with Entra."
  type        = list(string)
  default     = []
}

variable "vault_ranges" {
  description = "Addresses and ranges of whoever applies and of the key keeper: the vaults take no other from outside."
  type        = list(string)
}

variable "callers" {
  description = "Address ranges that may call the scoring servers through the clusters' ingress."
  type        = list(string)
}

variable "pipelines" {
  description = "Which pipelines may roll Airflow out: name, issuer and subject of their tokens."
  type = map(object({
    issuer  = string
    subject = string
  }))
  default = {}
}

variable "database_password" {
  description = "The password of Airflow's database: TF_VAR_database_password. It is in no state and no plan."
  type        = string
  ephemeral   = true
  sensitive   = true
  default     = null
}

variable "database_password_version" {
  description = "Raise it to write another password."
  type        = number
  default     = 1
}

variable "api" {
  description = "What API Management needs, where the environment has it: see docs/azure.md."
  type = object({
    publisher_name  = string
    publisher_email = string
    scoring_url     = string
    audience        = string
    callers         = list(string)
    calls_a_minute  = number
    key_secret      = string
  })
  default = null
}
