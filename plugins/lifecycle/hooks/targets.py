"""What runs where: one question to a target (staging or production), whatever kind it is."""

import logging
from typing import Any

from airflow.sdk import BaseHook

from lifecycle import settings
from lifecycle.hooks import image_registry, registry
from lifecycle.hooks.slot import Slot
from lifecycle.image_reference import ImageReference, ImageReferenceError
from training import use_case as definitions
from training.registry import tags
from training.use_case import Target

log = logging.getLogger(__name__)

CONNECTIONS: dict[Target, str] = {"staging": "scoring_staging", "production": "scoring_production"}
QA_CONNECTION = "scoring_qa"
"""Where images are tried, in a group of Azure Container Instances."""
DEPLOYMENT = "scoring"
CANARY = "scoring-canary"
METRICS_PORT = 8081
"""Of both Services: the one at which metrics are answered too."""
SELECTOR = "app.kubernetes.io/name=scoring"
DIGEST_ANNOTATION = "lifecycle/digest"
VERSION_ANNOTATION = "lifecycle/version"


class TargetError(ValueError):
    """Raised for a target whose connection is of another type, and for an image that a target does not take."""


class UnreleasedError(TargetError):
    """Raised where what runs was rolled out by no release."""


def settings_of(use_case: str, target: Target) -> settings.Target:
    """The settings of a use case's target."""
    found = settings.load().of(use_case)
    return found.production if target == "production" else found.staging


def current(use_case: str, target: Target) -> dict[str, str] | None:
    """What runs at a use case's target: ``{"image", "version"}``, or ``None`` where nothing does.

    ``image`` is the text of an ``ImageReference``. A canary does not count. Raises ``TargetError`` for a connection
    of another type, and where what runs was not rolled out by its content; and what the Kubernetes client raises
    when the cluster does not answer. Where no server answers requests, production is the registry's champion.
    """
    if not definitions.load(use_case).online:
        return _champion(use_case) if target == "production" else None
    conn_id = CONNECTIONS[target]
    connection = _connection(target)
    if connection.conn_type == "gunicorn":
        stable = Slot(connection, use_case, target).status().stable
        if stable is None:
            return None
        return {"image": stable.image, "version": stable.version}
    return _deployed(conn_id, settings_of(use_case, target).namespace)


def canary_runs(use_case: str, target: Target) -> bool:
    """Whether a canary runs at a target; that of a first release answers all requests, and ``current`` tells nothing.

    Raises what the Kubernetes client raises when the cluster does not answer.
    """
    connection = _connection(target)
    if connection.conn_type == "gunicorn":
        return Slot(connection, use_case, target).status().canary is not None
    return _deployment(CONNECTIONS[target], CANARY, settings_of(use_case, target).namespace) is not None


def known(use_case: str, target: Target) -> dict[str, str]:
    """As ``current``; empty texts where nothing runs, or where what runs was not rolled out by its content.

    For a way back, which must not fail because of what runs there.
    """
    try:
        return told(current(use_case, target))
    except TargetError as error:
        log.warning("%s", error)
        return told(None)


def told(found: dict[str, str] | None) -> dict[str, str]:
    """What ``current`` has found, as ``{"version", "image"}``; empty texts for nothing."""
    return {key: str((found or {}).get(key) or "") for key in ("version", "image")}


def _champion(use_case: str) -> dict[str, str] | None:
    """The version in production of a use case without a server, by what was approved."""
    champion = registry.by_alias(use_case, tags.CHAMPION)
    if champion is None:
        return None
    return {"image": champion.tags.get(tags.APPROVED_IMAGE, ""), "version": champion.version}


def _connection(target: Target) -> Any:
    connection = BaseHook.get_connection(CONNECTIONS[target])
    if connection.conn_type not in ("kubernetes", "gunicorn"):
        raise TargetError(
            f"connection {CONNECTIONS[target]!r} has type {connection.conn_type!r}: use kubernetes or gunicorn"
        )
    return connection


def refuse_foreign(use_case: str, target: Target, image: ImageReference) -> None:
    """Take no image that this target is not meant to run; raises ``TargetError`` that says what it takes.

    The scoring host runs folders. A cluster runs images of the listed repositories, and those of its own engine
    where there is no registry. Without a server, a model is what runs.
    """
    if not definitions.load(use_case).online:
        if image.kind != "model":
            raise TargetError(f"{use_case} has no server and runs models:/name@sha256:..., not {image}")
        return
    if _connection(target).conn_type == "gunicorn":
        if image.kind != "folder":
            raise TargetError(f"{target} runs folders of this machine, not {image}: run the build again")
        return
    refuse_unlisted(use_case, target, image)


def refuse_unlisted(use_case: str, target: str, image: ImageReference) -> None:
    """Take no image but one of the listed repositories, or of an engine where there is no registry."""
    listed = image_registry.repositories(use_case)
    if image.kind == "registry" and image.place in listed:
        return
    registry = image_registry.server(BaseHook.get_connection(image_registry.CONNECTION_ID))
    if image.kind == "engine" and not registry:
        return
    takes = [f"{repository}@sha256:..." for repository in listed] or ["an engine's image id"]
    raise TargetError(
        f"{target} refuses the image {image}: it takes {' or '.join(takes)}. Build it again, or list its repository "
        f"in other_repositories of [use_cases.{use_case}] in the settings file"
    )


def _deployment(conn_id: str, name: str, namespace: str) -> Any:
    """The cluster's object, or ``None`` where there is none of this name."""
    # Imported here: the Kubernetes client takes seconds, and DAG files import this module.
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
    from kubernetes.client.exceptions import ApiException

    try:
        return KubernetesHook(conn_id=conn_id).apps_v1_client.read_namespaced_deployment(name, namespace)
    except ApiException as error:
        if error.status == 404:
            return None
        raise


def _deployed(conn_id: str, namespace: str) -> dict[str, str] | None:
    if (found := _deployment(conn_id, DEPLOYMENT, namespace)) is None:
        return None
    annotations: dict[str, Any] = found.metadata.annotations or {}
    # The image of the pods themselves: an annotation stays behind when somebody sets another one.
    image = found.spec.template.spec.containers[0].image
    try:
        reference = ImageReference.parse_pair(image, annotations.get(DIGEST_ANNOTATION, ""))
    except ImageReferenceError as error:
        raise UnreleasedError(
            f"deployment {DEPLOYMENT} in {namespace} runs {image}, which no release rolled out ({error}): put a "
            "release back with the rollback DAG"
        ) from error
    return {"image": str(reference), "version": annotations.get(VERSION_ANNOTATION, "")}
