variable "vault_id" {
  description = "Resource id of the vault."
  type        = string
}

variable "names" {
  description = "By what is signed: name of the key."
  type        = map(string)
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}
