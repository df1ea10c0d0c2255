"""One trace for one DAG run: what is handed on, so that calls of the run can be found by it (W3C Trace Context)."""

import hashlib
from typing import Any


def trace_parent(instance: Any) -> str:
    """The header ``traceparent`` of what this task instance asks others to do.

    Airflow's own span where it makes some (``[traces] otel_on``). Otherwise it follows from DAG, run and task, and
    says that nobody samples it: no server then exports spans of it, while every log line has its id.
    """
    # Imported here: it takes a while, and DAG files import this module.
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    if found := carrier.get("traceparent"):
        return found
    run = f"{instance.dag_id}\0{instance.run_id}"
    return f"00-{_digits(run, 32)}-{_digits(run + instance.task_id, 16)}-00"


def trace_id(instance: Any) -> str:
    """The id of the trace: 32 hexadecimal digits, the same in every task of a run."""
    return trace_parent(instance).split("-")[1]


def _digits(text: str, count: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:count]
