variable "name" {
  description = "Name of the catalog."
  type        = string
}

variable "use_cases" {
  description = "Names of the use cases; each has a schema."
  type        = set(string)
}

variable "connector_id" {
  description = "Resource id of the access connector."
  type        = string
}

variable "account" {
  description = "Name of the storage account."
  type        = string
}

variable "containers" {
  description = "Names of its containers, by what they are for."
  type        = map(string)
}

variable "code_root" {
  description = "Workspace folder of the training code."
  type        = string
}

variable "guarded" {
  description = "Whether it refuses to be taken down while something is in it."
  type        = bool
}

variable "signing" {
  description = "The service credential that signs bundles, and the access connector behind it."
  type = object({
    credential   = string
    connector_id = string
  })
}
