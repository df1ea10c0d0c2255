output "client_id" {
  description = "By which Airflow says who it is."
  value       = databricks_service_principal.airflow.application_id
}

output "client_secret" {
  description = "By which Airflow proves it."
  value       = databricks_service_principal_secret.airflow.secret
  sensitive   = true
}
