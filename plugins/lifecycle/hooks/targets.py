"""What runs where: one question to a target (staging or production), whatever kind it is."""

from typing import Any

from airflow.sdk import BaseHook

from lifecycle import settings
from lifecycle.hooks.slot import Slot
from training.use_case import Target

CONNECTIONS: dict[Target, str] = {"staging": "scoring_staging", "production": "scoring_production"}
DEPLOYMENT = "scoring"
CANARY = "scoring-canary"
METRICS_PORT = 8081
"""Of both Services: the one at which metrics are answered, beside all else."""
SELECTOR = "app.kubernetes.io/name=scoring"
IMAGE_ANNOTATION = "lifecycle/image"
DIGEST_ANNOTATION = "lifecycle/digest"
VERSION_ANNOTATION = "lifecycle/version"


class TargetError(ValueError):
    """Raised when the type of a target's connection is not one where a scoring server can run."""


def settings_of(use_case: str, target: Target) -> settings.Target:
    """The settings of a use case's target."""
    found = settings.load().of(use_case)
    return found.production if target == "production" else found.staging


def current(use_case: str, target: Target) -> dict[str, str] | None:
    """What runs at a use case's target: ``{"image", "digest", "version"}``, or ``None`` where nothing does.

    A canary does not count. Raises ``TargetError`` for a connection of another type, and what the
    Kubernetes client raises when the cluster does not answer.
    """
    conn_id = CONNECTIONS[target]
    connection = BaseHook.get_connection(conn_id)
    if connection.conn_type == "gunicorn":
        stable = Slot(connection, use_case, target).status().stable
        if stable is None:
            return None
        return {"image": stable.image, "digest": stable.digest, "version": stable.version}
    if connection.conn_type == "kubernetes":
        return _deployed(conn_id, settings_of(use_case, target).namespace)
    raise TargetError(f"connection {conn_id!r} has type {connection.conn_type!r}: use kubernetes or gunicorn")


def _deployed(conn_id: str, namespace: str) -> dict[str, str] | None:
    # Imported here: the Kubernetes client takes seconds, and DAG files import this module.
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
    from kubernetes.client.exceptions import ApiException

    try:
        found = KubernetesHook(conn_id=conn_id).apps_v1_client.read_namespaced_deployment(DEPLOYMENT, namespace)
    except ApiException as error:
        if error.status == 404:
            return None
        raise
    annotations: dict[str, Any] = found.metadata.annotations or {}
    return {
        "image": annotations.get(IMAGE_ANNOTATION, ""),
        "digest": annotations.get(DIGEST_ANNOTATION, ""),
        "version": annotations.get(VERSION_ANNOTATION, ""),
    }
