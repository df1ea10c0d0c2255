#!/bin/bash
# Rolls out the image that carries this file, from a pod in the target cluster. All or nothing: when it
# fails or is told to stop, what ran before runs again, and the exit code is not 0.
#
#   STEP       deploy: the release itself; canary: one pod of it beside what runs
#   USE_CASE   its name, with - for _: a label          NAMESPACE  where to
#   TARGET     staging or production: the overlay
#   IMAGE      repository@sha256:..., or sha256:..., the id of an image of the cluster's own engine
#   VERSION    model version                            REPLICAS   used where autoscaling is left out
#   LEAVE_OUT  components that this cluster lacks       TIMEOUT    seconds for the rollout
#   PACE       seconds between two looks                PATIENCE   seconds for a fault that may pass by itself
#
# Needs bash, jq and kubectl; writes below its own folder and the report to REPORT.
set -euo pipefail
cd "$(dirname "$0")"
REPORT=${REPORT:-/airflow/xcom/return.json}
TERMINATION=${TERMINATION:-/dev/termination-log}
RECORD=scoring-record # the ConfigMap that keeps the manifests of the last good release
KINDS=deployment,service,serviceaccount,configmap,ingress,horizontalpodautoscaler,poddisruptionbudget
OURS=app.kubernetes.io/managed-by=lifecycle-release
PARTS='ingress autoscaling disruption-budget'
DEPLOYMENT=scoring TRACK=stable
[ "$STEP" = canary ] && DEPLOYMENT=scoring-canary TRACK=canary
PACE=${PACE:-2} PATIENCE=${PATIENCE:-20}

# Not by --request-timeout: with it kubectl takes no service account of the pod.
k() { timeout 30 kubectl --namespace "$NAMESPACE" "$@"; }
say() { echo "$(date -u +%H:%M:%S) $*"; }
apply() { k apply --server-side --force-conflicts --field-manager=lifecycle-release -f "$1"; }

read_variables() { # sets REPOSITORY and DIGEST, which nobody else says; sets WHY, and fails, where one is unusable
  local LC_ALL=C name part='[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*'
  local repository="([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]+)?/)?$part(/$part)*" digest='sha256:[0-9a-f]{64}'
  REPOSITORY='' DIGEST=${IMAGE##*@}
  if [[ $IMAGE =~ ^$repository@$digest$ ]] && [ $((${#IMAGE} - ${#DIGEST} - 1)) -le 255 ]; then
    REPOSITORY=${IMAGE%@*}
  elif ! [[ $IMAGE =~ ^$digest$ ]]; then
    WHY="IMAGE is '$IMAGE': give repository@sha256:... or an engine's image id (sha256:...), with 64 hexadecimal digits"
    return 1
  fi
  for name in USE_CASE NAMESPACE TARGET VERSION REPLICAS TIMEOUT; do # parts of a manifest
    [[ ${!name} =~ ^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$ ]] && continue
    WHY="$name is '${!name}': give up to 63 letters, digits, dots, dashes and underscores"
    return 1
  done
}

render() { # base, parts and overlay with this image, version and namespace pinned, into rendered.yaml
  local pin="newName: $REPOSITORY, digest: $DIGEST" part host
  # An image id has the form of a name with a tag.
  [ -n "$REPOSITORY" ] || pin="newName: sha256, newTag: \"${DIGEST#sha256:}\""
  mkdir -p release
  {
    echo "apiVersion: kustomize.config.k8s.io/v1beta1"
    echo "kind: Kustomization"
    echo "namespace: $NAMESPACE"
    echo "resources: [../base]"
    echo "components:"
    if exports_spans && ! left_out traces; then echo "  - ../components/traces"; fi
    if [ "$STEP" = canary ]; then
      echo "  - ../components/canary"
    else
      for part in $PARTS; do left_out "$part" || echo "  - ../components/$part"; done
      echo "  - ../overlays/$TARGET"
      if left_out autoscaling; then echo "replicas: [{name: scoring, count: $REPLICAS}]"; fi
    fi
    echo "images: [{name: scoring, $pin}]"
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

exports_spans() { # was this image built with what its servers need to export spans?
  grep -qsw otlp extras
}

left_out() { # left_out PART: does this cluster lack it?
  case " $LEAVE_OUT " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

names() { # kind/name of every object of a manifest, each on a line
  k create --dry-run=client -o json -f "$1" | jq -r '(.items[]? // .) | "\(.kind)/\(.metadata.name)"' | sort -u
}

prune() { # prune MANIFEST: delete what a release has made and this manifest does not hold
  local ours held='' gone # a list that could not be had is not an empty one: everything would go
  ours=$(k get "$KINDS" -l "$OURS" -o json | jq -r '.items[] | "\(.kind)/\(.metadata.name)"' | sort -u) || return 1
  if [ -s "$1" ]; then held=$(names "$1") || return 1; fi
  gone=$(comm -23 <(echo "$ours") <(echo "$held"))
  # shellcheck disable=SC2086
  [ -z "$gone" ] || k delete --ignore-not-found --wait=false $gone
}

own() { # own KIND: the pods or replicasets of this very image in this deployment, as a JSON list
  k get "$1" -l "app.kubernetes.io/name=scoring,lifecycle/track=$TRACK" -o json |
    jq --arg digest "$DIGEST" '[.items[] | select(.metadata.deletionTimestamp == null)
      | select((.spec.template // .).metadata.annotations["lifecycle/digest"] == $digest)]'
}

# Each looker prints one line, `done`, `waits: ...`, `fault: ...` (may pass by itself) or `hopeless: ...`, or nothing.
look_at_deployment() { # how far the rollout is, from the object that has to make the pods
  jq -r 'def condition($type): .status.conditions // [] | map(select(.type == $type)) | first // {};
    (.spec.replicas // 1) as $wanted | .status as $now | condition("Progressing") as $progress
    | condition("ReplicaFailure") as $failure
    | if ($now.observedGeneration // 0) < .metadata.generation then "waits: the cluster has not taken up the change"
      elif $progress.reason == "ProgressDeadlineExceeded" then
        "hopeless: ProgressDeadlineExceeded: \([$progress, $failure] | map(.message // empty) | join(" "))"
      elif $failure.status == "True" then "fault: ReplicaFailure: \($failure.reason): \($failure.message)"
      elif ($now.updatedReplicas // 0) < $wanted then "waits: \($now.updatedReplicas // 0) of \($wanted) pods are made"
      elif ($now.replicas // 0) > ($now.updatedReplicas // 0) then "waits: pods of the former release are still there"
      elif ($now.availableReplicas // 0) < ($now.updatedReplicas // 0) then
        "waits: \($now.availableReplicas // 0) of \($wanted) pods are ready"
      else "done" end | gsub("\n"; " ")'
}

look_at_pods() { # why they do not become ready, if they say so
  own pods | jq -r '[.[] | .metadata.name as $pod
    | (.status.conditions // [] | .[] | select(.reason == "Unschedulable")
        | "waits: \($pod): Unschedulable: \(.message)"),
      ((.status.initContainerStatuses // []) + (.status.containerStatuses // []) | .[] | .restartCount as $restarts
        | .state.waiting // empty | "\($pod): \(.reason): \(.message // "")" as $said
        | if .reason == "CrashLoopBackOff" and $restarts >= 2 then "hopeless: \($said)"
          elif .reason | IN("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
            then "hopeless: \($said)"
          elif .reason | IN("ErrImagePull", "ImagePullBackOff", "CreateContainerError") then "fault: \($said)"
          else empty end)]
    | sort_by(if startswith("hopeless") then 0 elif startswith("fault") then 1 else 2 end)
    | first // empty | gsub("\n"; " ")'
}

look() { # the one line that counts most
  local deployment pods
  if ! deployment=$(k get deployment "$DEPLOYMENT" -o json 2>&1); then
    echo "waits: kubectl: $(tail -n 1 <<<"${deployment:-no answer within 30 s}")"
    return
  fi
  deployment=$(look_at_deployment <<<"$deployment")
  case $deployment in done | hopeless:*) echo "$deployment"; return ;; esac
  pods=$(look_at_pods) || pods=''
  case $pods in hopeless:*) echo "$pods"; return ;; esac
  case $deployment in fault:*) echo "$deployment" ;; *) echo "${pods:-$deployment}" ;; esac
}

# In the main shell, which a signal then reaches between two commands: none takes longer than a few seconds.
wait_for_rollout() { # sets WHY, and fails, when it does not come to an end
  local seen faulty='' deadline=$((SECONDS + TIMEOUT))
  while :; do
    seen=$(look)
    WHY=${seen#*: }
    case $seen in
      done) return 0 ;;
      hopeless:*) return 1 ;;
      fault:*)
        faulty=${faulty:-$SECONDS}
        if [ $((SECONDS - faulty)) -ge "$PATIENCE" ]; then return 1; fi ;;
      *) faulty='' ;;
    esac
    if [ $SECONDS -ge $deadline ]; then break; fi
    sleep "$PACE"
  done
  WHY="not ready within $TIMEOUT s: $WHY"
  return 1
}

check_content() { # a name can lie, a digest cannot: where the image comes from no registry, ask what really runs
  [ -z "$REPOSITORY" ] || return 0
  local found
  found=$(own pods | jq -r --arg digest "$DIGEST" '[.[].status.containerStatuses[]?.imageID]
    | if length == 0 then "unknown: no pod says what it runs"
      else map(select(endswith($digest) | not)) | first // empty end') || found="unknown: its pods could not be listed"
  [ -z "$found" ] || { WHY="the image in this cluster is $found, not $DIGEST"; return 1; }
}

events_of() { # events_of KIND NAME
  k get events --field-selector "involvedObject.kind=$1,involvedObject.name=$2" -o json |
    jq -r '.items | sort_by(.lastTimestamp // .eventTime // "")[-8:][] | "\(.type) \(.reason): \(.message)"'
}

conditions() { # of an object, the JSON on stdin
  jq -r '.status.conditions // [] | .[] | "\(.type)=\(.status) \(.reason // ""): \(.message // "")"'
}

explain() { # what the objects say that should have made the pods, then the pods that failed with their last log lines
  local name
  echo "--- deployment $DEPLOYMENT"
  k get deployment "$DEPLOYMENT" -o json --ignore-not-found | conditions
  events_of Deployment "$DEPLOYMENT"
  for name in $(own replicasets | jq -r 'sort_by(.metadata.creationTimestamp) | last // empty | .metadata.name'); do
    echo "--- replica set $name"
    k get replicaset "$name" -o json | conditions
    events_of ReplicaSet "$name"
  done
  for name in $(own pods | jq -r '[.[] | select(any(.status.containerStatuses[]?; .ready) | not)][:2][].metadata.name'); do
    echo "--- events of $name"
    events_of Pod "$name"
    echo "--- last log lines of $name"
    k logs "$name" --tail=20 --previous 2>/dev/null || k logs "$name" --tail=20 2>&1 || true
  done
}

record() { # record FIELD: a field of the last good release, empty if there is none
  k get configmap "$RECORD" -o json --ignore-not-found | jq -r --arg field "$1" '.data[$field] // empty'
}

undo() { # back to the last good release, or to nothing
  record manifest.yaml >last-good.yaml || return 1
  if [ -s last-good.yaml ]; then
    apply last-good.yaml || return 1
  fi
  prune last-good.yaml
}

report_failure() { # report_failure LINE...: to the pod's end and to Airflow
  printf '%s\n' "$@" >"$TERMINATION"
  jq -Rs '{passed: false, error: .}' "$TERMINATION" >"$REPORT"
}

fail() { # fail REASON DETAILS
  trap - TERM INT
  say "FAILED: $1"
  [ -z "$2" ] || echo "$2"
  local before outcome
  before=$(record version) || before='(unknown)'
  if undo; then
    outcome="undone: ${before:+version }${before:-nothing} runs as before"
  else
    outcome="and what ran before could not be restored: see the log"
  fi
  echo "$outcome"
  report_failure "$1" "$(tail -c 2000 <<<"$2")" "$outcome"
  exit 1
}

stop_early() { # told to stop before anything was changed
  say "STOPPED before anything was changed"
  report_failure "stopped before the end" "nothing was changed"
  exit 1
}

main() {
  local previous since applied
  trap stop_early TERM INT # the first process of a container would pass a signal over, and roll out nobody's release
  if ! read_variables; then
    say "REFUSED: $WHY"
    report_failure "$WHY" "nothing was changed"
    exit 1
  fi
  render
  # 0.1.0 kept a digest beside the image, which then was a tag where no registry stood behind it.
  previous=$(k get configmap "$RECORD" -o json --ignore-not-found | jq -c --arg image "$IMAGE" '
    if .data == null then null else
      .data | .image = (if .image | test("@sha256:") then .image else .digest // .image end)
      | if .image == $image then (.previous | fromjson) else {image, version} end end')
  previous=${previous:-null}
  say "$STEP of version $VERSION ($IMAGE) to $NAMESPACE"
  # Runs when the command under way has ended.
  trap 'fail "stopped before the end" ""' TERM INT
  applied=$(apply rendered.yaml 2>&1) || fail "the cluster refused the manifests" "$applied"
  echo "$applied"
  wait_for_rollout || fail "$WHY" "$(explain 2>&1)"
  check_content || fail "$WHY" ""
  since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  if [ "$STEP" = deploy ]; then
    trap - TERM INT
    k create configmap "$RECORD" --dry-run=client -o yaml --from-file=manifest.yaml=rendered.yaml \
      --from-literal=image="$IMAGE" --from-literal=version="$VERSION" \
      --from-literal=since="$since" --from-literal=previous="$previous" |
      k label --local -o yaml -f - app.kubernetes.io/part-of=lifecycle "lifecycle/use-case=$USE_CASE" >record.yaml
    apply record.yaml
    prune rendered.yaml || say "what only the former release had could not be removed: the next release does it"
  fi
  jq -n --arg image "$IMAGE" --arg version "$VERSION" --arg since "$since" --argjson previous "$previous" \
    '{image: $image, version: $version, since: $since, previous: $previous}' >"$REPORT"
  say "done: version $VERSION"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then main; fi
