variable "location" {
  description = "Region."
  type        = string
}

variable "lake_group" {
  description = "Name of the lake's resource group."
  type        = string
}

variable "lake_id" {
  description = "Resource id of the storage account."
  type        = string
}

variable "registry_group" {
  description = "Name of the registry's resource group."
  type        = string
}

variable "registry_id" {
  description = "Resource id of the registry."
  type        = string
}

variable "queue_id" {
  description = "Resource id of the queue."
  type        = string
}

variable "identity_id" {
  description = "Resource id of the identity that delivers."
  type        = string
}

variable "watched_containers" {
  description = "Containers whose new files are told."
  type        = list(string)
}

variable "dead_letter_container" {
  description = "Container for what could not be delivered."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}
