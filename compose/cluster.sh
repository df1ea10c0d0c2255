#!/bin/bash
# Makes a cluster ready for the releases of every use case, as an administrator; run again, it changes nothing.
#   KUBECONFIG  an administrator's          SERVER  the API server as the stack's containers reach it
#   ACCESS      template of manifests to apply to each namespace, if any
#   REGISTRY    where images are pushed, as the cluster's nodes name it; without it no admission policy is applied
# Reads a folder USE-CASE-TARGET with namespace, API keys and NodePort for each target, which `init` has made below MADE.
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

# Kubernetes 1.30 has the kind. Asked once: a cluster that does not answer ends this, and one that lacks it is told.
kinds=$(k api-resources --api-group=admissionregistration.k8s.io --output=name)
case $kinds in
  *validatingadmissionpolicies.*) admission=${REGISTRY:+yes} why="REGISTRY is not set: give the registry as the nodes name it" ;;
  *) admission='' why="the cluster lacks ValidatingAdmissionPolicy, which Kubernetes has from 1.30 on" ;;
esac
[ -n "$admission" ] || echo "no admission policy narrows what the release's accounts may run: $why" >&2

make_ready() { # make_ready USE-CASE TARGET NAMESPACE: the namespace with its rights, keys and way in
  local namespace=$3 made=$MADE/$1-$2
  bash "$K8S/rbac.sh" "$1" "$2" "$namespace" | apply -f -
  if [ -n "$admission" ]; then
    local repositories others
    repositories=$REGISTRY/$(cat "$made/repository") others=$(cat "$made/other-repositories")
    bash "$K8S/admission.sh" "$namespace" "$repositories${others:+,$others}" "$(cat "$made/kubectl-image")" | apply -f -
  fi
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
    use_case=$(basename "$made" "-$target") namespace=$(cat "$made/namespace")
    make_ready "$use_case" "$target" "$namespace"
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
