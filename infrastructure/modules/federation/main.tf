# Tokens of somebody else that Entra takes for an identity of ours, so that nobody keeps a secret.
resource "azurerm_federated_identity_credential" "this" {
  for_each = var.credentials

  name                      = each.key
  user_assigned_identity_id = each.value.identity
  issuer                    = each.value.issuer
  subject                   = each.value.subject
  audience                  = ["api://AzureADTokenExchange"]
}
