#!/bin/bash
# Makes a cluster ready for releases, as an administrator; run again, it changes nothing.
#   KUBECONFIG  an administrator's          SERVER  the API server as the stack's containers reach it
#   ACCESS      manifests to apply at the end, if any
# Leaves /run/kube/staging and /run/kube/production: kubeconfigs of the service account `airflow`
# (k8s/rbac/base/airflow.yaml), which is all that Airflow gets.
set -euo pipefail
export HOME=/tmp
SERVER=${SERVER:-$(kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}')}
case $SERVER in
  *//127.* | *//localhost* | *//0.0.0.0*)
    echo "the cluster's address $SERVER is this container itself: set LIFECYCLE_KUBE_SERVER to one that containers reach" >&2
    exit 1 ;;
esac
k() { kubectl --server="$SERVER" "$@"; }
apply() { k apply --server-side --force-conflicts --field-manager=lifecycle-compose "$@"; }

for place in staging production; do
  namespace=attrition-$place
  secrets=/run/attrition/$place
  apply -k "/k8s/rbac/$place"
  # The scoring server gets hashes; the key itself is for the verification pods.
  k -n "$namespace" create secret generic scoring-api-keys --dry-run=client -o yaml \
    --from-file="$secrets/api-keys.json" | apply -f -
  k -n "$namespace" create secret generic scoring-client-key --dry-run=client -o yaml \
    --from-file="$secrets/api-key" | apply -f -
  apply -f - <<MANIFEST
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata:
  name: airflow-token
  namespace: $namespace
  annotations: {kubernetes.io/service-account.name: airflow}
MANIFEST
  token=''
  for _ in $(seq 30); do
    token=$(k -n "$namespace" get secret airflow-token -o jsonpath='{.data.token}' | base64 -d)
    [ -z "$token" ] || break
    sleep 1
  done
  [ -n "$token" ] || { echo "the cluster made no token for service account airflow in $namespace within 30 s" >&2; exit 1; }
  authority=$(kubectl config view --raw --minify --flatten -o jsonpath='{.clusters[0].cluster.certificate-authority-data}')
  (
    umask 077
    cat >"/run/kube/.$place" <<CONFIG
apiVersion: v1
kind: Config
current-context: $place
clusters: [{name: $place, cluster: {server: "$SERVER", certificate-authority-data: "$authority"}}]
users: [{name: airflow, user: {token: "$token"}}]
contexts: [{name: $place, context: {cluster: $place, user: airflow, namespace: $namespace}}]
CONFIG
  )
  chown 10001:10001 "/run/kube/.$place"
  mv "/run/kube/.$place" "/run/kube/$place"
done
[ -z "${ACCESS:-}" ] || apply -f "$ACCESS"
