variable "group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region."
  type        = string
}

variable "names" {
  description = "Name of each identity, by what acts as it."
  type        = map(string)
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}
