variable "group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the registry."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}

variable "sku" {
  description = "Standard or Premium."
  type        = string
}
