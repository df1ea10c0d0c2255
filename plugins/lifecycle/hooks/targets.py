"""What runs where: one question to a scoring target, whatever kind it is."""

from typing import Any, Literal, cast, get_args

from airflow.sdk import BaseHook

from lifecycle import settings
from lifecycle.hooks.slot import Slot

Place = Literal["staging", "production"]
DEPLOYMENT = "scoring"
CANARY = "scoring-canary"
SELECTOR = "app.kubernetes.io/name=scoring"
IMAGE_ANNOTATION = "lifecycle/image"
DIGEST_ANNOTATION = "lifecycle/digest"
VERSION_ANNOTATION = "lifecycle/version"


class TargetError(ValueError):
    """Raised when a connection names no place where the scoring server can run."""


def place(target: Place) -> settings.Target:
    """The settings of ``staging`` or ``production``."""
    scoring = settings.load().scoring
    return scoring.production if target == "production" else scoring.staging


def target_of(conn_id: str) -> Place:
    """``scoring_staging`` is ``staging``; a connection of another name raises ``TargetError``."""
    for target in get_args(Place):
        if conn_id == f"scoring_{target}":
            return cast(Place, target)
    raise TargetError(f"{conn_id!r} is no target: use scoring_staging or scoring_production")


def current(conn_id: str) -> dict[str, str] | None:
    """What runs at a target: ``{"image", "digest", "version"}``, or ``None`` where nothing does.

    A canary does not count. Raises ``TargetError`` for a connection that is no target, and what the
    Kubernetes client raises when the cluster does not answer.
    """
    connection = BaseHook.get_connection(conn_id)
    if connection.conn_type == "gunicorn":
        stable = Slot(connection).status().stable
        if stable is None:
            return None
        return {"image": stable.image, "digest": stable.digest, "version": stable.version}
    if connection.conn_type == "kubernetes":
        return _deployed(conn_id, place(target_of(conn_id)).namespace)
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
