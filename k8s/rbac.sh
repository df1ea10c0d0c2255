#!/bin/bash
# Prints the namespace of a use case and target with its accounts and rights, for an administrator to apply:
#   k8s/rbac.sh USE-CASE staging NAMESPACE | kubectl apply -f -
# `make namespaces` prints these three for each use case and target, as the settings file has them.
set -euo pipefail
if [ $# -ne 3 ] || ! [[ $1 =~ ^[a-z][a-z0-9-]*$ ]] || ! [[ $2 =~ ^(staging|production)$ ]] ||
  ! [[ $3 =~ ^[a-z0-9]([a-z0-9-]*[a-z0-9])?$ ]]; then
  echo "usage: $0 USE-CASE staging|production NAMESPACE, with the use case's name in lower case and - for _, and the" \
    "namespace that \`make namespaces\` prints; given: $*" >&2
  exit 2
fi
cd "$(dirname "$0")/rbac"
cat namespace.yaml network.yaml deployer.yaml switch.yaml airflow.yaml |
  sed -e "s/NAMESPACE/$3/g" -e "s/USE_CASE/$1/g" -e "s/TARGET/$2/g"
