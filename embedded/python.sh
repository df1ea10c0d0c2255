#!/bin/sh
# Prints the path of a Python 3.11 for `make setup`: what PYTHON names, the environment's own, or what uv finds or
# installs. Without uv it makes one beside the environment, with whatever Python 3 there is. Says on stderr what it
# does, and what to do where it fails. Call it in the clone's root: sh embedded/python.sh PYTHON VENV
set -u
wanted=$1 venv=$2

# Debian and Ubuntu keep what makes environments apart.
fits() { "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; }

own_uv() { # the pinned uv, checked by hash
  tools=$venv-uv
  command -v python3 >/dev/null || return 1
  if [ ! -x "$tools/bin/uv" ]; then
    python3 -m venv "$tools" &&
      awk '/^uv==/,/[^\\]$/' requirements.txt >"$tools/uv.txt" &&
      "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
        -r "$tools/uv.txt" || return 1
  fi >&2
  echo "$tools/bin/uv"
}

from_uv() {
  uv=$(command -v uv || own_uv) || return 1
  if found=$(UV_PYTHON_DOWNLOADS=never "$uv" python find --system 3.11 2>/dev/null) && fits "$found"; then
    echo "$found"
    return
  fi
  echo "'$wanted' is not a Python 3.11 that can make environments: uv installs a managed one" >&2
  UV_PYTHON_INSTALL_BIN=0 "$uv" python install 3.11 >&2 &&
    UV_PYTHON_PREFERENCE=only-managed "$uv" python find --system 3.11
}

if fits "$wanted"; then
  command -v "$wanted"
elif fits "$venv/bin/python"; then
  echo "$venv/bin/python"
elif python=$(from_uv) && fits "$python"; then
  echo "set-up takes $python" >&2
  echo "$python"
else
  echo "Python 3.11 is needed, '$wanted' is not it, and uv could not get one: install it (macOS: brew install" \
    "python@3.11; Debian, Ubuntu: apt-get install python3.11-venv), or name it with PYTHON=/path/to/python3.11" >&2
  exit 1
fi
