#!/bin/bash
# Prints the admission policies of one namespace, for an administrator to apply after what rbac.sh prints:
#   k8s/admission.sh NAMESPACE REPOSITORY KUBECTL-IMAGE | kubectl apply -f -
# REPOSITORY is where the use case's images are pushed, with the registry, and with commas those of
# `other_repositories`; KUBECTL-IMAGE is `[scoring] kubectl_image`. In place of REPOSITORY, --engine is for a cluster
# without a registry: images by their id alone, which the nodes' engine must hold already. An id does not tell which use
# case an image is of, so there the policy narrows accounts and Secrets, and keeps out what would have to be pulled.
# Needs Kubernetes 1.30 (admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy).
set -euo pipefail
if [ $# -ne 3 ] || ! [[ $1 =~ ^[a-z0-9]([a-z0-9-]*[a-z0-9])?$ ]] || ! [[ $2 =~ ^([a-z0-9][a-z0-9./:_,-]*|--engine)$ ]] ||
  ! [[ $3 =~ ^[a-z0-9][A-Za-z0-9./:@_-]*$ ]]; then
  echo "usage: $0 NAMESPACE REPOSITORY KUBECTL-IMAGE, such as attrition-staging registry.example.com/attrition-scoring" \
    "registry.k8s.io/kubectl:v1.32.0, with --engine for REPOSITORY where the cluster has no registry; given: $*" >&2
  exit 2
fi
cd "$(dirname "$0")/admission"
print() { # print KIND GROUP RESOURCES SPEC
  echo ---
  sed -e "s|NAMESPACE|$namespace|g" -e "s|KIND\$|$1|" -e "s|\[GROUP\]|$2|" -e "s|RESOURCES|$3|" -e "s|SPEC\$|$4|" \
    -e "s|IMAGES\$|\"['$image']\"|" -e "s|REPOSITORIES\$|\"$repositories\"|" -e "s|ENGINE\$|\"$engine\"|" policy.yaml
}
namespace=$1 repositories="['${2//,/\', \'}']" engine=false image=$3
[ "$2" != --engine ] || repositories='[]' engine=true
print pods '[""]' '[pods, pods/ephemeralcontainers]' object.spec
print deployments '[apps]' '[deployments]' object.spec.template.spec
