#!/bin/bash
# Stands in for kubectl: `get KIND` answers with the file KIND.json of the folder STATE, with an error where there is
# KIND.error (from the second call on: KIND.later.error), and with an empty list otherwise. Where there is create.error,
# a manifest cannot be read. Writes each call with its second to STATE/calls.
# Where there is kustomize.term, whoever calls for the manifests is told to stop meanwhile.
if [ "$1" = kustomize ] && [ -f "$STATE/kustomize.term" ]; then kill -TERM "$PPID"; fi
if [ "$1" = kustomize ]; then exec "$KUBECTL" "$@"; fi
shift 2 # the namespace
echo "$SECONDS $*" >>"$STATE/calls"
cd "$STATE" || exit 1
case $1 in
  get)
    name=$2
    # events --field-selector involvedObject.kind=KIND,involvedObject.name=NAME
    if [ "$2" = events ]; then name=events-$(sed 's/[^,]*kind=\([^,]*\),.*name=\(.*\)/\1-\2/' <<<"$4"); fi
    if [ -f "$name.error" ]; then cat "$name.error" >&2; exit 1; fi
    if [ -f "$name.later.error" ] && [ "$(grep -c " get $2 " calls)" -gt 1 ]; then cat "$name.later.error" >&2; exit 1; fi
    if [ -f "$name.next.json" ] && [ "$(grep -c " get $2 " calls)" -gt 2 ]; then mv "$name.next.json" "$name.json"; fi
    if [ -f "$name.json" ]; then cat "$name.json"; elif [[ $* != *--ignore-not-found* ]]; then echo '{"items": []}'; fi ;;
  create)
    if [ -f create.error ] && [[ $* == *"-o json"* ]]; then cat create.error >&2; exit 1; fi
    echo '{"kind": "List", "metadata": {"name": "x"}}' ;;
  label) cat ;;
  *) echo "$1 was called" ;;
esac
