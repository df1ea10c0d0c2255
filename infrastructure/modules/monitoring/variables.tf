variable "group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "The use case, with dashes."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}

variable "template" {
  description = "The ARM template."
  type        = string
}

variable "workspace_id" {
  description = "Resource id of the Log Analytics workspace."
  type        = string
}

variable "action_group_id" {
  description = "Resource id of whom alerts go to."
  type        = string
}
