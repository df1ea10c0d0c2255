#!/bin/bash
# Makes a cluster ready for the releases of every use case, as an administrator; run again, it changes nothing.
#   KUBECONFIG  an administrator's          SERVER  the API server as the stack's containers reach it
#   ACCESS      template of manifests to apply to each namespace, if any
# Reads a folder USE-CASE-TARGET with API keys and NodePort for each namespace, which `init` has made below MADE.
# Leaves KUBE/staging and KUBE/production: kubeconfigs of Airflow's service account (k8s/rbac/airflow.yaml), which is
# all that Airflow gets, with a context for each use case's namespace.
set -euo pipefail
export HOME=/tmp
K8S=${K8S:-/k8s} MADE=${MADE:-/run/lifecycle} KUBE=${KUBE:-/run/kube} OWNER=${OWNER:-10001:10001}
SERVER=${SERVER:-$(kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}')}
case $SERVER in
  *//127.* | *//localhost* | *//0.0.0.0*)
    echo "the cluster's address $SERVER is this container itself: set LIFECYCLE_KUBE_SERVER to one that containers reach" >&2
    exit 1 ;;
esac
k() { kubectl --server="$SERVER" "$@"; }
apply() { k apply --server-side --force-conflicts --field-manager=lifecycle-compose "$@"; }

make_ready() { # make_ready USE-CASE TARGET: the namespace with its rights, keys and way in
  local namespace=$1-$2 made=$MADE/$1-$2
  bash "$K8S/rbac.sh" "$1" "$2" | apply -f -
  # The scoring server gets hashes; the release's key itself is for the verification pods.
  k -n "$namespace" create secret generic scoring-api-keys --dry-run=client -o yaml \
    --from-file="$made/api-keys.json" | apply -f -
  k -n "$namespace" create secret generic scoring-client-key --dry-run=client -o yaml \
    --from-file="$made/api-key" | apply -f -
  [ -z "${ACCESS:-}" ] ||
    sed -e "s/NAMESPACE/$namespace/" -e "s/NODE_PORT/$(cat "$made/node-port")/" "$ACCESS" | apply -f -
}

token_of() { # token_of ACCOUNT: a lasting token of a service account in lifecycle-airflow
  local token
  apply -f - >&2 <<MANIFEST
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata:
  name: $1-token
  namespace: lifecycle-airflow
  annotations: {kubernetes.io/service-account.name: $1}
MANIFEST
  for _ in $(seq 30); do
    token=$(k -n lifecycle-airflow get secret "$1-token" -o jsonpath='{.data.token}' | base64 -d)
    if [ -n "$token" ]; then echo "$token"; return 0; fi
    sleep 1
  done
  echo "the cluster made no token for service account $1 in lifecycle-airflow within 30 s" >&2
  return 1
}

authority=$(kubectl config view --raw --minify --flatten -o jsonpath='{.clusters[0].cluster.certificate-authority-data}')
for target in staging production; do
  contexts=''
  for made in "$MADE"/*-"$target"; do
    [ -d "$made" ] || { echo "$MADE holds no use case: the service \`init\` makes a folder for each namespace" >&2; exit 1; }
    namespace=$(basename "$made")
    make_ready "${namespace%-$target}" "$target"
    contexts="$contexts, {name: $namespace, context: {cluster: $target, user: airflow, namespace: $namespace}}"
  done
  token=$(token_of "airflow-$target")
  (
    umask 077
    cat >"$KUBE/.$target" <<CONFIG
apiVersion: v1
kind: Config
current-context: $target
clusters: [{name: $target, cluster: {server: "$SERVER", certificate-authority-data: "$authority"}}]
users: [{name: airflow, user: {token: "$token"}}]
contexts: [{name: $target, context: {cluster: $target, user: airflow}}$contexts]
CONFIG
  )
  chown "$OWNER" "$KUBE/.$target"
  mv "$KUBE/.$target" "$KUBE/$target"
done
