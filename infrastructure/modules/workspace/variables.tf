variable "group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the workspace."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}

variable "connector_name" {
  description = "Name of the access connector."
  type        = string
}

variable "signing_name" {
  description = "Name of the access connector that signs."
  type        = string
}
