output "ids" {
  description = "By what is signed: resource id of the key, whatever its version."
  value       = { for what, key in azurerm_key_vault_key.this : what => key.resource_versionless_id }
}

output "urls" {
  description = "By what is signed: address of the key, whatever its version."
  value       = { for what, key in azurerm_key_vault_key.this : what => key.versionless_id }
}

output "public" {
  description = "By what is signed: the public key of the newest version, in one line of base64."
  value = {
    for what, key in azurerm_key_vault_key.this :
    what => replace(replace(key.public_key_pem, "/-----[A-Z ]+-----/", ""), "/\\s/", "")
  }
}
