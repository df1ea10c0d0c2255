output "id" {
  description = "Resource id of the cluster."
  value       = azurerm_kubernetes_cluster.this.id
}

output "issuer" {
  description = "Who signs the tokens of the cluster's service accounts."
  value       = azurerm_kubernetes_cluster.this.oidc_issuer_url
}

output "node_principal_id" {
  description = "Object id of the identity that the nodes pull images with."
  value       = azurerm_kubernetes_cluster.this.kubelet_identity[0].object_id
}

output "kube_config" {
  description = "A kubeconfig without secrets: whoever uses it signs in with the workload identity of their pod."
  sensitive   = true # what Azure gives for the cluster's address is marked so as a whole
  value = jsonencode({
    apiVersion      = "v1"
    kind            = "Config"
    current-context = var.name
    clusters = [{
      name = var.name
      cluster = {
        server                     = azurerm_kubernetes_cluster.this.kube_config[0].host
        certificate-authority-data = azurerm_kubernetes_cluster.this.kube_config[0].cluster_ca_certificate
      }
    }]
    contexts = [{
      name    = var.name
      context = { cluster = var.name, user = "airflow" }
    }]
    users = [{
      name = "airflow"
      user = {
        exec = {
          apiVersion      = "client.authentication.k8s.io/v1beta1"
          command         = "kubelogin"
          interactiveMode = "Never"
          # The id is that of AKS itself in every tenant.
          args = ["get-token", "--login", "workloadidentity", "--server-id", "6dae42f8-4368-4678-94ff-3960e28e3630"]
        }
      }
    }]
  })
}
