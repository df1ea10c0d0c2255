"""The parts of the embedded stack: how each is started, and how it shows that it answers."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import requests

from embedded.environment import HEARTBEAT_FILE, Stack

_TIMEOUT = 5.0
"""Seconds for an answer: Airflow on a busy machine has needed more than two, and was said not to answer."""


@dataclass(frozen=True)
class Check:
    """One thing that a part does, and a question whose answer shows that it does."""

    name: str
    ready: Callable[[float], bool]
    """Whether it answers; the argument is the time (seconds since 1970) at which its part was started."""
    address: str = ""


@dataclass(frozen=True)
class Part:
    """One program of the stack."""

    name: str
    argv: list[str]
    env: Mapping[str, str]
    checks: list[Check]
    deadline: float = 180.0
    """Seconds in which all checks have to pass."""


def parts(stack: Stack) -> list[Part]:
    """All parts, those that take longest first."""
    return [_airflow(stack), _mlflow(stack), _minilake(stack), _scoring(stack)]


def _airflow(stack: Stack) -> Part:
    def answers(component: str) -> Callable[[float], bool]:
        return lambda started: _beats(stack, component, started)

    return Part(
        name="airflow",
        argv=[sys.executable, "-m", "embedded.airflow_components"],
        env=stack.airflow_environment(),
        checks=[
            Check("airflow api-server", lambda _: _serves(stack), stack.airflow_url),
            Check("airflow scheduler", answers("scheduler")),
            Check("airflow dag-processor", answers("dag_processor")),
            Check("airflow triggerer", answers("triggerer")),
        ],
    )


def _serves(stack: Stack) -> bool:
    """Whether the API server answers people, and tasks.

    The first request to the tasks' API makes all versions of it, seconds in which the server answers nobody: asked
    here, that is part of the start, and no task waits for it.
    """
    return _health(stack) is not None and _get(f"{stack.airflow_url}/execution/health") is not None


def _health(stack: Stack) -> dict[str, dict[str, str | None]] | None:
    answer = _get(f"{stack.airflow_url}/api/v2/monitor/health")
    return answer.json() if answer else None


def _beats(stack: Stack, component: str, started: float) -> bool:
    """Whether a component has sent a heartbeat since it was started."""
    beat = (_health(stack) or {}).get(component, {}).get(f"latest_{component}_heartbeat")
    return bool(beat) and datetime.fromisoformat(str(beat)).timestamp() >= started


def _mlflow(stack: Stack) -> Part:
    home = stack.home / "mlflow"
    return Part(
        name="mlflow",
        argv=[
            sys.executable, "-m", "embedded.mlflow_server",
            "--host", "127.0.0.1", "--port", str(stack.ports.mlflow), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{home}/mlflow.db",
            "--artifacts-destination", str(home / "artifacts"), "--serve-artifacts",
        ],
        env=stack.mlflow_environment(),
        checks=[Check("mlflow", lambda _: bool(_get(f"{stack.mlflow_url}/health")), stack.mlflow_url)],
    )  # fmt: skip


def _minilake(stack: Stack) -> Part:
    health = f"{stack.minilake_url}/_minilake/health"
    return Part(
        name="minilake",
        argv=[sys.executable, "-m", "embedded.emulators.minilake"],
        env=stack.minilake_environment(),
        checks=[Check("minilake (databricks)", lambda _: bool(_get(health)), stack.minilake_url)],
    )


def _scoring(stack: Stack) -> Part:
    beat = stack.slots / HEARTBEAT_FILE
    return Part(
        name="scoring host",
        argv=[sys.executable, "-m", "embedded.scoring_host"],
        env=stack.environment(),
        checks=[Check("scoring host", lambda started: beat.exists() and beat.stat().st_mtime >= started)],
    )


def _get(url: str) -> requests.Response | None:
    try:
        answer = requests.get(url, timeout=_TIMEOUT)
    except requests.RequestException:
        return None
    return answer if answer.ok else None
