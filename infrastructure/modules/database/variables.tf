variable "group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the server."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}

variable "subnet_id" {
  description = "Resource id of the subnet that is delegated to PostgreSQL."
  type        = string
}

variable "network_id" {
  description = "Resource id of the network that finds the server by name."
  type        = string
}

variable "sku" {
  description = "Machine of the server."
  type        = string
}

variable "storage_mb" {
  description = "Storage in MB."
  type        = number
}

variable "guarded" {
  description = "Whether backups are kept in another region too."
  type        = bool
}

variable "password" {
  description = "Password of the user airflow."
  type        = string
  ephemeral   = true
  sensitive   = true
}

variable "password_version" {
  description = "Another number writes the password again."
  type        = number
}
