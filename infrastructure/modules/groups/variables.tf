variable "names" {
  description = "Name of each group, by what it is for."
  type        = map(string)
}

variable "location" {
  description = "Region."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}
