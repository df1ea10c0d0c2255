variable "group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the storage account."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}

variable "replication" {
  description = "LRS, ZRS or another way to keep copies."
  type        = string
}

variable "containers" {
  description = "Name of each container, by what it is for."
  type        = map(string)
}

variable "kept" {
  description = "Days after which blobs of a container are deleted, by its name."
  type        = map(number)
}

variable "deleted_days" {
  description = "Days that deleted blobs and containers can be had back."
  type        = number
}
