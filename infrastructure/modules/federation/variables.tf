variable "credentials" {
  description = "By name: the identity's resource id, and issuer and subject of the tokens that stand for it."
  type = map(object({
    identity = string
    issuer   = string
    subject  = string
  }))
}
