#!/usr/bin/env bash
# Airflow's image of the commit that is checked out. `make airflow-image` calls the first two; pipelines the third.
#   delivery/image.sh build TAG              builds it
#   delivery/image.sh scan TAG FOLDER        writes what is in it (CycloneDX) and what is known against it into the folder;
#                                            ends with code 1 where a mended fault of severity HIGH or CRITICAL is left
#   delivery/image.sh push TAG REGISTRY      pushes it, and prints it by its digest
set -euo pipefail
cd "$(dirname "$0")/.."
KUBELOGIN_VERSION=${KUBELOGIN_VERSION:-v0.2.19}
TRIVY=${TRIVY:-.venv-azure/bin/trivy}
NAME=lifecycle-airflow

build() { # TAG
  local programs
  [ -z "$(git status --porcelain)" ] || { echo "there are changes that are not committed: an image is of one commit" >&2; exit 2; }
  programs=$(mktemp -d)
  az aks install-cli --only-show-errors --kubelogin-version "$KUBELOGIN_VERSION" \
    --kubelogin-install-location "$programs/kubelogin" --install-location "$programs/kubectl"
  docker build --file delivery/Dockerfile --build-context "kubelogin=$programs" \
    --build-arg "REVISION=$(git rev-parse HEAD)" --tag "$NAME:$1" .
}

scan() { # TAG FOLDER
  mkdir -p "$2"
  "$TRIVY" image --quiet --format cyclonedx --output "$2/sbom.cdx.json" "$NAME:$1"
  "$TRIVY" image --quiet --scanners vuln --format json --output "$2/vulnerabilities.json" "$NAME:$1"
  "$TRIVY" convert --format table --severity HIGH,CRITICAL "$2/vulnerabilities.json"
  "$TRIVY" image --quiet --scanners vuln --severity HIGH,CRITICAL --ignore-unfixed --ignorefile delivery/accepted.trivyignore \
    --exit-code 1 "$NAME:$1"
}

push() { # TAG REGISTRY
  docker tag "$NAME:$1" "$2/$NAME:$1"
  docker push --quiet "$2/$NAME:$1" >&2
  docker inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$2/$NAME:$1" | grep "^$2/$NAME@sha256:"
}

case ${1:-} in
  build) build "$2" ;;
  scan) scan "$2" "$3" ;;
  push) push "$2" "$3" ;;
  *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
