#!/bin/bash
# Rolls out the image that carries this file, from a pod in the target cluster. All or nothing: when it
# fails or is told to stop, what ran before runs again, and the exit code is not 0.
#
#   STEP       deploy: the release itself; canary: one pod of it beside what runs
#   USE_CASE   its name, with - for _: a label          NAMESPACE  where to
#   TARGET     staging or production: the overlay
#   IMAGE      repository@sha256:... or repository:tag  DIGEST     what its content must be
#   VERSION    model version                            REPLICAS   used where autoscaling is left out
#   LEAVE_OUT  components that this cluster lacks       TIMEOUT    seconds for the rollout
#
# Needs bash, jq and kubectl; writes below its own folder and the report to REPORT.
set -euo pipefail
cd "$(dirname "$0")"
REPORT=${REPORT:-/airflow/xcom/return.json}
TERMINATION=${TERMINATION:-/dev/termination-log}
RECORD=scoring-record # the ConfigMap that keeps the manifests of the last good release
KINDS=deployment,service,serviceaccount,configmap,ingress,networkpolicy,horizontalpodautoscaler,poddisruptionbudget
OURS=app.kubernetes.io/managed-by=lifecycle-release
PARTS='ingress autoscaling disruption-budget network-policy'
DEPLOYMENT=scoring
[ "$STEP" = canary ] && DEPLOYMENT=scoring-canary

k() { kubectl --namespace "$NAMESPACE" "$@"; }
say() { echo "$(date -u +%H:%M:%S) $*"; }
apply() { k apply --server-side --force-conflicts --field-manager=lifecycle-release -f "$1"; }

render() { # base, parts and overlay with this image's name, digest, version and namespace pinned, into rendered.yaml
  local name=${IMAGE%@*} pin part host
  case $IMAGE in
    *@sha256:*) pin="digest: ${IMAGE#*@}" ;;
    *) pin="newTag: ${IMAGE##*:}"; name=${IMAGE%:*} ;;
  esac
  mkdir -p release
  {
    echo "apiVersion: kustomize.config.k8s.io/v1beta1"
    echo "kind: Kustomization"
    echo "namespace: $NAMESPACE"
    echo "resources: [../base]"
    echo "components:"
    if [ "$STEP" = canary ]; then
      echo "  - ../components/canary"
    else
      for part in $PARTS; do left_out "$part" || echo "  - ../components/$part"; done
      echo "  - ../overlays/$TARGET"
      if left_out autoscaling; then echo "replicas: [{name: scoring, count: $REPLICAS}]"; fi
    fi
    echo "images: [{name: scoring, newName: $name, $pin}]"
    # What carries managed-by and is not in the manifests of the release that runs is deleted by `prune`.
    echo "labels: [{pairs: {app.kubernetes.io/part-of: lifecycle, app.kubernetes.io/managed-by: lifecycle-release,"
    echo "  app.kubernetes.io/version: \"$VERSION\", lifecycle/use-case: \"$USE_CASE\"}, includeTemplates: true}]"
    echo "commonAnnotations: {lifecycle/image: \"$IMAGE\", lifecycle/digest: \"$DIGEST\", lifecycle/version: \"$VERSION\"}"
    if [ "$STEP" = deploy ] && ! left_out ingress; then
      echo "replacements:"
      echo "  - source: {kind: Deployment, fieldPath: metadata.labels.lifecycle/use-case}"
      echo "    targets:"
      for host in spec.rules.0.host spec.tls.0.hosts.0; do
        echo "      - {select: {kind: Ingress}, fieldPaths: [$host], options: {delimiter: ., index: 0}}"
      done
    fi
  } >release/kustomization.yaml
  kubectl kustomize release >rendered.yaml
}

left_out() { # left_out PART: does this cluster lack it?
  case " $LEAVE_OUT " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

names() { # kind/name of every object of a manifest, one a line
  k create --dry-run=client -o json -f "$1" | jq -r '(.items[]? // .) | "\(.kind)/\(.metadata.name)"' | sort -u
}

prune() { # prune MANIFEST: delete what a release has made and this manifest does not hold
  local gone
  gone=$(comm -23 <(k get "$KINDS" -l "$OURS" -o json | jq -r '.items[] | "\(.kind)/\(.metadata.name)"' | sort -u) \
    <(if [ -s "$1" ]; then names "$1"; fi))
  # shellcheck disable=SC2086
  [ -z "$gone" ] || k delete --ignore-not-found --wait=false $gone
}

own_pods() { # the pods of this very image in this deployment, as a JSON list
  k get pods -l "app.kubernetes.io/name=scoring,lifecycle/track=$([ "$STEP" = canary ] && echo canary || echo stable)" -o json |
    jq --arg digest "$DIGEST" '[.items[] | select(.metadata.annotations["lifecycle/digest"] == $digest
      and .metadata.deletionTimestamp == null)]'
}

hopeless() { # why waiting longer makes no sense, if so
  own_pods | jq -r '[.[] | .metadata.name as $pod | (.status.initContainerStatuses // []) + (.status.containerStatuses // [])
    | .[] | .restartCount as $restarts | .state.waiting // empty
    | select((.reason == "CrashLoopBackOff" and $restarts >= 2)
        or (.reason | IN("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")))
    | "\($pod): \(.reason): \(.message // "")"] | first // empty'
}

wait_for_rollout() { # prints why not, and fails, when it does not come to an end
  local status reason deadline=$((SECONDS + TIMEOUT))
  while [ $SECONDS -lt $deadline ]; do
    if status=$(k rollout status "deployment/$DEPLOYMENT" --timeout=3s 2>&1); then return 0; fi
    reason=$(hopeless)
    if [ -n "$reason" ]; then echo "$reason"; return 1; fi
  done
  echo "not ready within $TIMEOUT s: $(tail -n 1 <<<"$status")"
  return 1
}

check_content() { # a tag can lie, a digest cannot: where the image has none, ask what really runs
  case $IMAGE in *@sha256:*) return 0 ;; esac
  local other
  other=$(own_pods | jq -r --arg digest "$DIGEST" '[.[].status.containerStatuses[]?.imageID | select(endswith($digest) | not)] | first // empty')
  if [ -n "$other" ]; then echo "$IMAGE is $other in this cluster, not $DIGEST"; return 1; fi
}

explain() { # events and last log lines of the pods that failed
  local pod
  for pod in $(own_pods | jq -r '.[] | select(any(.status.containerStatuses[]?; .ready) | not) | .metadata.name' | head -n 2); do
    echo "--- events of $pod"
    k get events --field-selector "involvedObject.name=$pod" -o json |
      jq -r '.items | sort_by(.lastTimestamp)[-8:][] | "\(.type) \(.reason): \(.message)"'
    echo "--- last log lines of $pod"
    k logs "$pod" --tail=20 --previous 2>/dev/null || k logs "$pod" --tail=20 2>&1 || true
  done
}

record() { # record FIELD: a field of the last good release, empty if there is none
  k get configmap "$RECORD" -o json --ignore-not-found | jq -r --arg field "$1" '.data[$field] // empty'
}

undo() { # back to the last good release, or to nothing
  record manifest.yaml >last-good.yaml
  if [ -s last-good.yaml ]; then
    apply last-good.yaml || return 1
  fi
  prune last-good.yaml
}

fail() { # fail REASON DETAILS
  trap - TERM INT
  say "FAILED: $1"
  [ -z "$2" ] || echo "$2"
  local before outcome
  before=$(record version)
  if undo; then
    outcome="undone: ${before:+version }${before:-nothing} runs as before"
  else
    outcome="and what ran before could not be restored: see the log"
  fi
  echo "$outcome"
  printf '%s\n' "$1" "$(tail -c 2000 <<<"$2")" "$outcome" >"$TERMINATION"
  jq -Rs '{passed: false, error: .}' "$TERMINATION" >"$REPORT"
  exit 1
}

main() {
  local previous since why
  render
  previous=$(k get configmap "$RECORD" -o json --ignore-not-found | jq -c --arg digest "$DIGEST" '
    if .data == null then null
    elif .data.digest == $digest then (.data.previous | fromjson)
    else .data | {image, digest, version} end')
  previous=${previous:-null}
  say "$STEP of version $VERSION ($DIGEST) to $NAMESPACE"
  # Runs when the command under way has ended: none takes longer than a few seconds.
  trap 'fail "stopped before the end" ""' TERM INT
  why=$(apply rendered.yaml 2>&1) || fail "the cluster refused the manifests" "$why"
  echo "$why"
  why=$(wait_for_rollout) || fail "$why" "$(explain)"
  why=$(check_content) || fail "$why" ""
  since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  if [ "$STEP" = deploy ]; then
    trap - TERM INT
    k create configmap "$RECORD" --dry-run=client -o yaml --from-file=manifest.yaml=rendered.yaml \
      --from-literal=image="$IMAGE" --from-literal=digest="$DIGEST" --from-literal=version="$VERSION" \
      --from-literal=since="$since" --from-literal=previous="$previous" |
      k label --local -o yaml -f - app.kubernetes.io/part-of=lifecycle "lifecycle/use-case=$USE_CASE" >record.yaml
    apply record.yaml
    prune rendered.yaml
  fi
  jq -n --arg digest "$DIGEST" --arg version "$VERSION" --arg since "$since" --argjson previous "$previous" \
    '{digest: $digest, version: $version, since: $since, previous: $previous}' >"$REPORT"
  say "done: version $VERSION"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then main; fi
