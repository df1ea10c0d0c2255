"""The embedded stack as the place that the cloud is compared with, and in a dry run as the cloud's Airflow too."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from delivery.smoke.cloud import Cloud
from delivery.smoke.state import SmokeError
from delivery.smoke.walk import Place
from embedded import stack as stacks
from embedded.airflow_client import Airflow
from embedded.environment import Stack

_EXPORT_SECONDS, _POLL_SECONDS = 60.0, 1.0
_PROGRAMS = ("az", "docker", "git", "helm", "kubectl", "kubelogin", "make", "tofu")


def signed_in(stack: Stack, url: str = "") -> Airflow:
    """The stack's own user, who may do everything there."""
    user = stack.credentials
    return Airflow(url or stack.airflow_url, user.airflow_user, user.airflow_password)


@contextmanager
def running(stack: Stack, say: Callable[[str], None]) -> Iterator[None]:
    """The stack that is up, or one that is started, and stopped again."""
    was_up = stacks.is_held(stack)
    stacks.up_detached(stack, say)
    try:
        yield
    finally:
        if not was_up:
            stacks.down(stack, say)


@contextmanager
def embedded(stack: Stack, data: Path, say: Callable[[str], None]) -> Iterator[Place]:
    """The stack on this machine."""
    with running(stack, say):
        airflow = signed_in(stack)
        yield Place(
            where="on this machine", airflow=airflow, approver=airflow, data=str(data),
            export_seconds=_EXPORT_SECONDS, poll_seconds=_POLL_SECONDS,
        )  # fmt: skip


class DryCloud(Cloud):
    """The same steps with stand-ins for the programs; its cluster's Airflow is the embedded stack's."""

    _export_seconds, _poll_seconds = _EXPORT_SECONDS, _POLL_SECONDS

    def __init__(self, *arguments: Any, stack: Stack, say: Callable[[str], None]) -> None:
        super().__init__(*arguments)
        self._stack, self._say = stack, say

    @contextmanager
    def place(self) -> Iterator[Place]:
        """The stack once more, which may have been stopped after the walk that this one is compared with."""
        with running(self._stack, self._say), super().place() as found:
            yield found

    def _users(self, url: str) -> tuple[Airflow, Airflow]:
        airflow = signed_in(self._stack, url)
        return airflow, airflow


def write_stand_ins(folder: Path, airflow_port: int) -> str:
    """Programs that do what is needed of Azure's on this machine; returns the value of PATH that has them first.

    Each writes its arguments into the file ``calls``. The file ``made`` is there as long as an environment would be.
    """
    if (git := shutil.which("git")) is None:
        raise SmokeError("git is not on PATH: a dry run asks it for the commit")
    programs = folder / "programs"
    programs.mkdir(parents=True, exist_ok=True)
    (folder / "answers.json").write_text(json.dumps(_outputs(folder)))
    bodies = {
        "tofu": f"""case $2 in
  apply) : >'{folder}/made' ;;
  destroy) rm -f '{folder}/made' ;;
  output) cat '{folder}/answers.json' ;;
esac""",
        "az": """url= body= file= what="$1 $2 $3"
while [ $# -gt 0 ]; do
  case $1 in --url) url=$2 ;; --body) body=${2#@} ;; --file) file=$2 ;; esac
  shift
done
case $what in
  "rest "*) path=${url#*/api/2.0/fs/files} path=${path%%[?]*}; mkdir -p "${path%/*}"; cp "$body" "$path" ;;
  "keyvault secret show") echo what-the-vault-keeps ;;
  "keyvault secret set") test -s "$file" ;;
  "aks get-credentials "*) : >"$file" ;;
esac""",
        "docker": f"""[ "$1" != inspect ] || echo "dry.azurecr.io/lifecycle-airflow@sha256:{"0" * 64}\"""",
        "git": f"""[ "$1" != status ] || exit 0
exec '{git}' "$@\"""",
        "kubectl": f"""for last do :; done
case " $* " in
  *" port-forward "*) exec '{sys.executable}' -m delivery.smoke.forward "${{last%:*}}" {airflow_port} ;;
  *" apply "* | *" exec "*) cat >/dev/null ;;
esac""",
    }
    for name in _PROGRAMS:
        program = programs / name
        called = f"printf '%s ' {name} \"$@\" >>'{folder}/calls'; echo >>'{folder}/calls'"
        program.write_text(f"#!/bin/sh\n{called}\n{bodies.get(name, ':')}\n")
        program.chmod(0o755)
    return str(programs)


def _outputs(folder: Path) -> dict[str, dict[str, object]]:
    """What `tofu output -json` would say: the same members, names of this machine."""
    settings = f"""environment = "small"
airflow_url = "http://127.0.0.1"
mlflow_url = "https://adb-0.azuredatabricks.net/ml"

[every_use_case]
data = "{folder}/volumes/{{use_case}}/raw/rows.csv"
"""
    values: dict[str, object] = {
        "settings": settings,
        "secrets_backend": json.dumps({"vault_url": "https://dry-small-kv.vault.azure.net/"}),
        "workers_vault": "https://dry-small-keys.vault.azure.net/",
        "airflow": {"namespace": "airflow", "client_ids": {}},
        "airflow_values": "{}",
        "cluster_users": {"triggerer": "0" * 8, "workers": "1" * 8},
        "pipeline": {
            "client_id": "", "tenant_id": "", "subscription_id": "",
            "airflow_registry": "dry.azurecr.io", "cluster": "dry-small-production", "group": "dry-small-serving",
        },
    }  # fmt: skip
    return {name: {"value": value} for name, value in values.items()}
