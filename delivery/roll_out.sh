#!/usr/bin/env bash
# Rolls one commit out: Airflow's image, and the DAG files of the same commit.
#   delivery/roll_out.sh IMAGE COMMIT REPOSITORY PLACE
# IMAGE by its digest; COMMIT as 40 hexadecimal digits; REPOSITORY the address that Airflow clones; PLACE the values file that
# `tofu output -raw airflow_values` prints. Needs helm and kubectl, with access to the cluster's namespace `airflow`.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 4 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
image=$1 commit=$2 repository=$3 place=$4
CHART_VERSION=${CHART_VERSION:-1.22.0}
NAMESPACE=airflow

[[ $image =~ ^[^@]+@sha256:[0-9a-f]{64}$ ]] || { echo "$image names no digest: give repository@sha256:..." >&2; exit 2; }
[[ $commit =~ ^[0-9a-f]{40}$ ]] || { echo "$commit is not a commit: give the 40 hexadecimal digits of git rev-parse" >&2; exit 2; }

# The chart names the image of task pods as repository:tag, so a digest goes in as `...@sha256` and its digits.
tasks=images.pod_template
bundle=dagProcessor.dagBundleConfigList[0].kwargs
# Without --wait: pods wait for the database's migration, which is a hook, and hooks run after what --wait waits for.
helm upgrade airflow airflow --install --repo https://airflow.apache.org --version "$CHART_VERSION" --namespace "$NAMESPACE" \
  --timeout 15m --values delivery/values.yaml --values "$place" \
  --set-string "images.airflow.repository=${image%@*}" --set-string "images.airflow.digest=${image#*@}" \
  --set-string "$tasks.repository=${image%:*}" --set-string "$tasks.tag=${image##*:}" \
  --set-string "$bundle.tracking_ref=$commit" --set-string "$bundle.repo_url=$repository"
kubectl --namespace "$NAMESPACE" rollout status deployment --selector release=airflow --timeout 15m
