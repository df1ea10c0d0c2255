variable "group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the vault."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}

variable "tenant_id" {
  description = "Entra tenant."
  type        = string
}

variable "guarded" {
  description = "Whether a deleted vault keeps its name and secrets until its days are over."
  type        = bool
}

variable "deleted_days" {
  description = "Days that deleted secrets can be had back; 7 to 90."
  type        = number
}

variable "ranges" {
  description = "Addresses and ranges that may reach the vault from outside."
  type        = list(string)
}

variable "subnet_id" {
  description = "Resource id of the subnet that may reach the vault."
  type        = string
}

variable "log_id" {
  description = "Resource id of the Log Analytics workspace that the audit goes to."
  type        = string
}
