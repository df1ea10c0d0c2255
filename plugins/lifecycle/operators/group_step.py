"""The step ``try``: an image for a moment in a group of Azure Container Instances, its verification client beside it.

The group is named by the action key, so that a try that follows a killed one finds it, with its report if it has
one. It is removed at the end, however that came about; a group that a killed last try has left is removed by the next
release of the use case. Nobody can reach it from outside, and its API key is made for it alone.

Imported by DAG files, so mind what it imports.
"""

import base64
import hashlib
import json
import logging
import secrets
import shlex
import time
from pathlib import Path
from typing import Any

import msgspec
from airflow.sdk.exceptions import AirflowException

from lifecycle import settings
from lifecycle.image_reference import ImageReference
from lifecycle.operators.steps import StepError, Work, verify_arguments
from serving.scoring.described import described
from training import use_case as definitions

log = logging.getLogger(__name__)

CONNECTION_TYPE = "azure_container_instance"
SERVER, VERIFIER = "server", "verifier"
VCPUS_EACH = 1.0
VCPUS = 2 * VCPUS_EACH
"""What a group asks for: its server, and the verification client beside it."""
KEY_TAG, USE_CASE_TAG, ENVIRONMENT_TAG = "lifecycle-key", "lifecycle-use-case", "lifecycle-environment"
MARK = "--- report ---"
"""In the verifier's output, before its report: a container's output is all that can be had of it."""
_POLL_SECONDS = 5.0
_OUTPUT_SECONDS = 60.0
"""How long a container's output may lag behind its end."""
_REMOVALS = 3
"""Tries to remove a group."""
_LAST_LINES = 40
_KEYS = "/etc/scoring/keys"
_REPORT = Path("/tmp/report.json")  # noqa: S108 - of a container that nobody else is in


class PlaceError(ValueError):
    """Raised when connection ``scoring_qa`` does not say where groups are made; the message says what to write."""


@described
class Place(msgspec.Struct, frozen=True):
    """Where groups are made: members of the connection's extra, beside those of the provider's hook."""

    resource_group: str
    region: str
    pull_identity: str
    """Resource id of the user-assigned identity that pulls the image."""
    subnet: str = ""
    """Resource id of a subnet, where the registry is private."""


class GroupStep:
    """One image tried in one group."""

    def __init__(self, connection: Any, work: Work) -> None:
        if connection.conn_type != CONNECTION_TYPE:
            raise PlaceError(
                f"connection {connection.conn_id!r} has type {connection.conn_type!r}: use {CONNECTION_TYPE}, or leave "
                "qa of [release] in the settings file empty"
            )
        try:
            self._place = msgspec.convert(connection.extra_dejson, Place)
        except msgspec.ValidationError as error:
            raise PlaceError(f"the extra of connection {connection.conn_id!r} is not complete: {error}") from error
        if work.image is None or work.image.kind != "registry":
            raise PlaceError(f"a container group pulls its image from a registry, and {work.image} is in none")
        self.image: ImageReference = work.image
        self._work = work
        self._conn_id: str = connection.conn_id
        self._made: Any = None

    @property
    def _client(self) -> Any:
        # Imported here: the Azure client takes seconds, and DAG files import this module.
        from airflow.providers.microsoft.azure.hooks.container_instance import AzureContainerInstanceHook

        if self._made is None:
            self._made = AzureContainerInstanceHook(self._conn_id).get_conn()
        return self._made

    def run(self) -> dict[str, Any]:
        """The verification's report, with ``where`` in words; the group is gone by then.

        Raises ``StepError`` where the server itself has ended, and ``AirflowException`` where another try may help:
        a quota, an image that cannot be pulled yet, a group that somebody else has removed.
        """
        from azure.core.exceptions import AzureError

        try:
            self._remove_leftovers()
            self._find_or_make()
            report = self._await_report()
        except AzureError as error:
            self._try_to_remove()
            raise AirflowException(f"Azure refuses {self._work.key}: {_reason(error)}") from error
        except BaseException:
            self._try_to_remove()
            raise
        if not self._try_to_remove():
            raise AirflowException(
                f"the container group {self._work.key} in {self._place.resource_group} could not be removed, and goes "
                "on costing money: the next try removes it, or a person does"
            )
        return {**report, "where": f"in a container group of {self._place.resource_group} ({self._place.region})"}

    def stop(self) -> None:
        """Remove the group: the task was ended."""
        self._try_to_remove()

    # --- finding and making ---

    def _find_or_make(self) -> None:
        group = self._get()
        if group is not None and self._is_usable(group):
            log.info("the container group %s of an earlier try is there: going on with it", self._work.key)
            return
        if group is not None:
            self._remove(self._work.key)
        # Without the client's own waiting: it would go on for ever where somebody else removes the group.
        self._client.container_groups.begin_create_or_update(
            self._place.resource_group, self._work.key, self._group(), polling=False
        )

    def _is_usable(self, group: Any) -> bool:
        return group.provisioning_state != "Failed" and all(one.image == str(self.image) for one in group.containers)

    def _get(self) -> Any:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return self._client.container_groups.get(self._place.resource_group, self._work.key)
        except ResourceNotFoundError:
            return None

    def _tags(self) -> dict[str, str]:
        slug = definitions.load(self._work.use_case).slug
        return {USE_CASE_TAG: slug, ENVIRONMENT_TAG: settings.load().environment}

    def _group(self) -> Any:
        from azure.mgmt.containerinstance import models

        key = secrets.token_urlsafe(32)
        keys = json.dumps({"release": hashlib.sha256(key.encode()).hexdigest()}).encode()
        needs = models.ResourceRequirements(requests=models.ResourceRequests(memory_in_gb=1.0, cpu=VCPUS_EACH))
        arguments = verify_arguments(self._work, "http://127.0.0.1:8080", Path("/app/bundle"), _REPORT)
        verify = shlex.join(["python", "-B", *arguments])
        script = f"{verify}; code=$?; echo; echo '{MARK}'; cat {_REPORT}; exit $code"
        identity = self._place.pull_identity
        registry = self.image.place.partition("/")[0]
        return models.ContainerGroup(
            location=self._place.region,
            os_type="Linux",
            restart_policy="Never",
            identity=models.ContainerGroupIdentity(
                type="UserAssigned", user_assigned_identities={identity: models.UserAssignedIdentities()}
            ),
            image_registry_credentials=[models.ImageRegistryCredential(server=registry, identity=identity)],
            subnet_ids=[models.ContainerGroupSubnetId(id=self._place.subnet)] if self._place.subnet else None,
            tags={**self._tags(), KEY_TAG: self._work.key},
            volumes=[models.Volume(name="keys", secret={"api-keys.json": base64.b64encode(keys).decode()})],
            containers=[
                models.Container(
                    name=SERVER,
                    image=str(self.image),
                    resources=needs,
                    environment_variables=[_variable("SCORING_API_KEYS_FILE", f"{_KEYS}/api-keys.json")],
                    volume_mounts=[models.VolumeMount(name="keys", mount_path=_KEYS, read_only=True)],
                ),
                models.Container(
                    name=VERIFIER,
                    image=str(self.image),
                    resources=needs,
                    command=["sh", "-c", script],
                    environment_variables=[
                        models.EnvironmentVariable(name="LIFECYCLE_API_KEY", secure_value=key),
                        _variable("TRACEPARENT", self._work.trace_parent),
                    ],
                ),
            ],
        )

    # --- waiting ---

    def _await_report(self) -> dict[str, Any]:
        deadline = time.monotonic() + settings.load().release.qa_seconds
        group = None
        while time.monotonic() < deadline:
            group = self._get()
            if group is None:
                raise AirflowException(f"the container group {self._work.key} was removed by somebody else")
            if group.provisioning_state == "Failed":
                raise AirflowException(f"the container group {self._work.key} did not start:\n{_events(group)}")
            if _ended(group, VERIFIER):
                return self._await_output()
            if _ended(group, SERVER):
                raise StepError(f"the server has ended by itself:\n{self._output(SERVER)}")
            time.sleep(_POLL_SECONDS)
        raise AirflowException(
            f"no report of {self._work.key} within {settings.load().release.qa_seconds} s (qa_seconds of [release]):\n"
            f"{_events(group)}\n{self._output(VERIFIER)}"
        )

    def _await_output(self) -> dict[str, Any]:
        """The report of a verifier that has ended."""
        deadline = time.monotonic() + _OUTPUT_SECONDS
        while True:
            output = self._output(VERIFIER)
            _, mark, text = output.rpartition(MARK)
            try:
                report: dict[str, Any] = msgspec.json.decode(text.strip()) if mark else {}
            except msgspec.DecodeError:  # not there to its end
                report = {}
            if report:
                return report
            if time.monotonic() > deadline:
                raise StepError(f"the verification client stopped without a report:\n{output}")
            time.sleep(_POLL_SECONDS)

    def _output(self, container: str) -> str:
        logs = self._client.containers.list_logs(
            self._place.resource_group, self._work.key, container, tail=_LAST_LINES
        )
        return str(logs.content or "")

    # --- removing ---

    def _remove_leftovers(self) -> None:
        """Groups that a killed last try has left: of this use case alone, of which one release runs at a time."""
        mine = self._tags().items()
        for group in self._client.container_groups.list_by_resource_group(self._place.resource_group):
            tags = group.tags or {}
            if mine <= tags.items() and tags.get(KEY_TAG) == group.name != self._work.key:
                log.warning("removing the container group %s, which an earlier release has left", group.name)
                self._remove(group.name)

    def _remove(self, name: str) -> None:
        """Azure takes it without a fault where the group is not there."""
        self._client.container_groups.begin_delete(self._place.resource_group, name, polling=False)

    def _try_to_remove(self) -> bool:
        from azure.core.exceptions import AzureError, ResourceNotFoundError

        for number in range(_REMOVALS):
            if number:
                time.sleep(_POLL_SECONDS)
            try:
                self._remove(self._work.key)
            except ResourceNotFoundError:
                return True
            except AzureError as error:
                log.error("the container group %s could not be removed: %s", self._work.key, _reason(error))
                continue
            return True
        return False


def _variable(name: str, value: str) -> Any:
    from azure.mgmt.containerinstance import models

    return models.EnvironmentVariable(name=name, value=value)


def _reason(error: Any) -> str:
    """Azure's own words, in one line."""
    told = getattr(error, "error", None)
    return f"{told.code}: {told.message}" if told else str(error).strip()


def _ended(group: Any, name: str) -> bool:
    """Whether a container of the group has ended."""
    views = [one.instance_view for one in group.containers if one.name == name]
    return any(view and view.current_state and view.current_state.state == "Terminated" for view in views)


def _events(group: Any) -> str:
    """What Azure says about the group and its containers, such as an image that cannot be pulled."""
    views = [getattr(group, "instance_view", None), *(one.instance_view for one in getattr(group, "containers", ()))]
    events = [event for view in views if view for event in view.events or ()]
    return "\n".join(f"{event.name}: {event.message}" for event in events) or "Azure says nothing about why"
