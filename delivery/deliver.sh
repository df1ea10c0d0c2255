#!/usr/bin/env bash
# What a pipeline does once it has signed in at Azure: pushes the image TAG and rolls it out with the DAG files of its commit.
#   REGISTRY=... CLUSTER=... GROUP=... REPOSITORY=... AIRFLOW_VALUES=... delivery/deliver.sh COMMIT
# The image's tag is the commit; AIRFLOW_VALUES is what `tofu output -raw airflow_values` printed.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$1
KUBECONFIG=$(mktemp) place=$(mktemp)
export KUBECONFIG
trap 'rm -f "$KUBECONFIG" "$place"' EXIT
printf '%s\n' "$AIRFLOW_VALUES" >"$place"

az acr login --only-show-errors --name "${REGISTRY%%.*}"
image=$(delivery/image.sh push "$commit" "$REGISTRY")
echo "pushed $image"
az aks get-credentials --only-show-errors --resource-group "$GROUP" --name "$CLUSTER" --file "$KUBECONFIG" --overwrite-existing
kubelogin convert-kubeconfig --login azurecli
delivery/roll_out.sh "$image" "$commit" "$REPOSITORY" "$place"
