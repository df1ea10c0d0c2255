#!/bin/bash
# Prints the namespace of a use case and target with its accounts and rights, for an administrator to apply:
#   k8s/rbac.sh USE-CASE staging | kubectl apply -f -
set -euo pipefail
if [ $# -ne 2 ] || ! [[ $1 =~ ^[a-z][a-z0-9-]*$ ]] || ! [[ $2 =~ ^(staging|production)$ ]]; then
  echo "usage: $0 USE-CASE staging|production, with the use case's name in lower case and - for _; given: $*" >&2
  exit 2
fi
cd "$(dirname "$0")/rbac"
cat namespace.yaml network.yaml deployer.yaml switch.yaml airflow.yaml | sed -e "s/USE_CASE/$1/g" -e "s/TARGET/$2/g"
