variable "group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region."
  type        = string
}

variable "name" {
  description = "Name of the Log Analytics workspace."
  type        = string
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
}

variable "insights_name" {
  description = "Name of the Application Insights."
  type        = string
}

variable "retention_days" {
  description = "Days that logs are kept."
  type        = number
}

variable "gigabytes_a_day" {
  description = "What the workspace takes on a day, in GB; the rest is lost."
  type        = number
}

variable "export_target_id" {
  description = "Resource id of the storage account that the log lines are exported to."
  type        = string
}

variable "alert_mail" {
  description = "Mail address that alerts go to."
  type        = string
}
