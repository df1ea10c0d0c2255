"""The house rule: never doubled, never abandoned.

Every action outside Airflow (a Databricks run, an image build, a pod or process, a model version, an
alias) carries a key that follows from DAG, run, task and purpose alone. Whoever is about to act looks
the key up first: a retry, a resumed task or a second scheduler finds what the first one made.
"""

import hashlib
import re

_DIGEST = 12
MAX_LENGTH = 63
"""Fits a Kubernetes label value and name (63) and a Databricks idempotency token (64)."""


def action_key(*, dag_id: str, run_id: str, task_id: str, purpose: str) -> str:
    """Name one action of one task of one run.

    The same arguments give the same key on every machine and every try, so the try number is not among
    them. The key is a DNS label: lower-case letters, digits and dashes, at most ``MAX_LENGTH`` long. The
    readable front says what it is for; the digest at the end keeps two keys apart.
    """
    parts = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "purpose": purpose}
    if empty := [name for name, value in parts.items() if not value]:
        raise ValueError(f"an action key needs {', '.join(empty)}: give a text that is not empty")
    digest = hashlib.sha256("\0".join(parts.values()).encode()).hexdigest()[:_DIGEST]
    readable = re.sub(r"[^a-z0-9]+", "-", f"{dag_id}-{purpose}".lower()).strip("-")
    front = readable[: MAX_LENGTH - _DIGEST - 1].rstrip("-") or "action"
    return f"{front}-{digest}"
