variable "group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the Service Bus namespace."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}

variable "queue" {
  description = "Name of the queue."
  type        = string
}

variable "action_group_id" {
  description = "Resource id of whom alerts go to."
  type        = string
}
