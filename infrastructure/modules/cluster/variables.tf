variable "group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the cluster."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}

variable "tenant_id" {
  description = "Entra tenant."
  type        = string
}

variable "identity_id" {
  description = "Resource id of the identity that the control plane acts as."
  type        = string
}

variable "subnet_id" {
  description = "Resource id of the nodes' subnet."
  type        = string
}

variable "node_size" {
  description = "Machine of a node."
  type        = string
}

variable "node_count" {
  description = "Nodes."
  type        = number
}

variable "tier" {
  description = "Free, or Standard with an uptime that Azure promises."
  type        = string
}

variable "admins" {
  description = "Object id of the Entra group of administrators."
  type        = string
}

variable "api_server_ranges" {
  description = "Address ranges that may reach the API server; empty: any."
  type        = list(string)
}

variable "log_id" {
  description = "Resource id of the Log Analytics workspace."
  type        = string
}

variable "collected_namespaces" {
  description = "Namespaces whose log lines are collected."
  type        = list(string)
}
