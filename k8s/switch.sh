#!/bin/bash
# Sets or takes back the stop switch of a namespace, from a pod in it: writes the ConfigMap that every scoring pod
# mounts, and waits until each of them says so.
#
#   STEP       stop or resume             NAMESPACE  where
#   SAID       what the switch is to say: JSON with reason, by, since
#   TIMEOUT    seconds until those that do not say so are named, and the step fails
#
# Needs bash, jq and kubectl, and no file beside it: a pod has it as an argument. Writes the report to REPORT.
set -euo pipefail
REPORT=${REPORT:-/airflow/xcom/return.json}
TERMINATION=${TERMINATION:-/dev/termination-log}
SWITCH=scoring-stop KEY=stop.json

k() { timeout 30 kubectl --namespace "$NAMESPACE" "$@"; }
say() { echo "$(date -u +%H:%M:%S) $*"; }

fail() {
  say "FAILED: $1"
  printf '%s\n' "$1" >"$TERMINATION"
  jq -Rs '{passed: false, error: .}' "$TERMINATION" >"$REPORT"
  exit 1
}

servers() { # name and address of every scoring pod that answers, or may, one a line
  # What a node prepares may have mounted the switch before it was changed, and starts with what it said then.
  k get pods -l app.kubernetes.io/name=scoring -o json | jq -r --arg step "$STEP" '.items[]
    | select(.status.phase == "Running" or ($step == "stop" and .status.phase == "Pending" and .spec.nodeName != null))
    | (.status.podIP // "" | if contains(":") then "[\(.)]" else . end) as $host
    | first(.spec.containers[].ports[]? | select(.name == "http")) as $port
    | "\(.metadata.name) \($host):\($port.containerPort)"'
}

obeys() { # obeys ADDRESS: does this server say what the switch says? One that stops for another reason does not yet.
  # kubectl is the one HTTP client of this image; with a server and no kubeconfig it sends no token.
  kubectl --kubeconfig=/dev/null --server="http://$1" --request-timeout=3s get --raw /version 2>/dev/null |
    jq -e --argjson said "$SAID" --arg step "$STEP" 'has("stopped")
      and if $step == "stop" then .stopped.since == $said.since else .stopped == null end' >/dev/null
}

others() { # the pods that do not obey, in one line
  local list name address found=
  list=$(servers) || { echo " (the pods could not be listed: see the log)"; return; }
  while read -r name address; do
    [ -z "$name" ] || obeys "$address" || found="$found $name"
  done <<<"$list"
  echo "$found"
}

main() {
  local patch left deadline=$((SECONDS + TIMEOUT))
  patch=$(jq -n --argjson said "$SAID" --arg step "$STEP" --arg key "$KEY" \
    '{data: {($key): (if $step == "stop" then ($said | tojson) else null end)}}')
  say "$STEP in $NAMESPACE"
  k patch configmap "$SWITCH" --type=merge -p "$patch" ||
    fail "the ConfigMap $SWITCH of namespace $NAMESPACE could not be changed: an administrator applies k8s/rbac.sh again"
  while left=$(others); [ -n "$left" ]; do
    if [ $SECONDS -ge "$deadline" ]; then
      fail "the switch is written, and after $TIMEOUT s these pods have not taken it up ($STEP):$left"
    fi
    sleep 2
  done
  sleep 1 # another worker of the same pod may look at the file half a second later
  jq -n --arg step "$STEP" --argjson said "$SAID" '{step: $step, said: $said}' >"$REPORT"
  say "done: $STEP"
}

if [ "${BASH_SOURCE[0]:-$0}" = "$0" ]; then main; fi
