# Copy to mine.tfvars, which git ignores, and change every line. Nothing here is a secret.
environment     = "small"
name            = "mlops"
subscription_id = "00000000-0000-0000-0000-000000000000"
location        = "westeurope"
use_cases       = ["attrition"]
airflow_url     = "https://airflow.example.com"
approvers       = ["ml-platform-lead@example.com"]
data_writers    = ["hr-data-team@example.com"]
alert_mail      = "ml-team@example.com"
cluster_admins  = "00000000-0000-0000-0000-000000000000"
key_keeper      = "00000000-0000-0000-0000-000000000000"
callers         = ["203.0.113.0/24"]
vault_ranges    = ["203.0.113.7"]

# The line that `make approval-key OUT=approval-key.json` prints.
approval_keys = <<-TOML
TOML

# What Azure's meters cost you, for docs/azure.md's table: such as currency = "EUR" and log_gb. Empty: no amounts.
prices = <<-TOML
TOML

pipelines = {
  github = {
    issuer  = "https://token.actions.githubusercontent.com"
    subject = "repo:example/lifecycle:environment:production"
  }
}

# What stands behind API Management, which the environment full has. The secret is the vault's.
api = {
  publisher_name  = "ML platform"
  publisher_email = "ml-team@example.com"
  scoring_url     = "https://attrition.scoring.example.com"
  audience        = "00000000-0000-0000-0000-000000000000"
  callers         = ["00000000-0000-0000-0000-000000000000"]
  calls_a_minute  = 600
  key_secret      = "scoring-api-key"
}
