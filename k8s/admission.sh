#!/bin/bash
# Prints the admission policies of one namespace, for an administrator to apply after what rbac.sh prints:
#   k8s/admission.sh NAMESPACE REPOSITORY KUBECTL-IMAGE | kubectl apply -f -
# REPOSITORY is where the use case's images are pushed, with the registry, and with commas those of
# `other_repositories`; KUBECTL-IMAGE is `[scoring] kubectl_image`.
# Needs Kubernetes 1.30 (admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy) and a registry: an image that stays
# on an engine has no digest to ask for.
set -euo pipefail
if [ $# -ne 3 ] || ! [[ $1 =~ ^[a-z0-9]([a-z0-9-]*[a-z0-9])?$ ]] || ! [[ $2 =~ ^[a-z0-9][a-z0-9./:_,-]*$ ]] ||
  ! [[ $3 =~ ^[a-z0-9][A-Za-z0-9./:@_-]*$ ]]; then
  echo "usage: $0 NAMESPACE REPOSITORY KUBECTL-IMAGE, such as attrition-staging registry.example.com/attrition-scoring" \
    "registry.k8s.io/kubectl:v1.32.0; given: $*" >&2
  exit 2
fi
cd "$(dirname "$0")/admission"
print() { # print KIND GROUP RESOURCES SPEC
  echo ---
  sed -e "s|NAMESPACE|$namespace|g" -e "s|KIND\$|$1|" -e "s|\[GROUP\]|$2|" -e "s|RESOURCES|$3|" -e "s|SPEC\$|$4|" \
    -e "s|IMAGES\$|\"['$image']\"|" -e "s|REPOSITORIES\$|\"['$repositories']\"|" policy.yaml
}
namespace=$1 repositories=$(sed "s/,/', '/g" <<<"$2") image=$3
print pods '[""]' '[pods, pods/ephemeralcontainers]' object.spec
print deployments '[apps]' '[deployments]' object.spec.template.spec
