variable "group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the network."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}

variable "callers" {
  description = "Address ranges that may call the scoring servers."
  type        = list(string)
}
