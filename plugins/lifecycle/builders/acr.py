"""Build in Azure Container Registry with ACR Tasks: no Docker engine of our own.

Connection type ``azure_container_registry`` or ``azure``: ``host`` is the login server
(``name.azurecr.io``), the extra holds ``subscription_id`` and ``resource_group`` (and ``arm_url`` for a
sovereign cloud, ``abac: true`` for a registry with permissions per repository). Credentials: type
``azure`` logs in as the provider's base hook does (client id, secret, tenant, or managed identity); the
other type with the default Azure credential. AcrPush is not enough: the identity needs "Container
Registry Tasks Contributor" on the registry.
"""

import logging
import re
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.containerregistrytasks import ContainerRegistryTasksMgmtClient, models
from azure.storage.blob import BlobClient

from lifecycle.builders import BuildError, Memory, build_failed
from lifecycle.builders.acr_registry import find_image
from lifecycle.builders.context import DOCKERFILE, KEY_LABEL, Inputs, build_arguments
from lifecycle.hooks.image_registry import server
from lifecycle.image_reference import ImageReference

log = logging.getLogger(__name__)
# Azure's clients log every request and answer at INFO; the task's log is for the build's.
logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)

RUN_ID = "acr_run_id"
"""Where the run under way is remembered, followed by the tag that it builds."""
_UNDER_WAY = ("Queued", "Started", "Running")
_BUILD_SECONDS = 3600
_POLL_SECONDS = 5.0
_BASE = re.compile(
    r"runtime-dependency:\s+registry: \S+\s+repository: (\S+)\s+tag: (\S+)\s+digest: (sha256:[0-9a-f]{64})"
)
"""What the end of a run's log says of the image that the last stage begins with: the list below "The following
dependencies were found", as Microsoft's pages on ``az acr build`` and ACR Tasks print it."""
_NOT_ALLOWED = "TasksOperationsNotAllowed"


def azure_credential(connection: Any) -> Any:
    """An azure-identity credential for a connection, made by the provider."""
    if connection.conn_type == "azure":
        from airflow.providers.microsoft.azure.hooks.base_azure import AzureBaseHook

        if not connection.extra_dejson.get("use_azure_identity_object"):
            raise BuildError(
                f"connection {connection.conn_id!r} of type azure needs use_azure_identity_object: true in its "
                "extra, for the provider makes credentials of an older kind without it"
            )
        return AzureBaseHook(conn_id=connection.conn_id).get_credential(conn=connection)
    from airflow.providers.microsoft.azure.utils import get_sync_default_azure_credential

    extra = connection.extra_dejson
    return get_sync_default_azure_credential(
        managed_identity_client_id=extra.get("managed_identity_client_id"),
        workload_identity_tenant_id=extra.get("workload_identity_tenant_id"),
    )


class AcrBuilder:
    """Uploads the context, schedules a run, follows its log. A run that outlives its task is found again."""

    def __init__(
        self,
        connection: Any,
        *,
        credential: Callable[[Any], Any] = azure_credential,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        extra = connection.extra_dejson
        missing = [name for name in ("subscription_id", "resource_group") if not extra.get(name)]
        if missing or not connection.host:
            raise BuildError(
                f"connection {connection.conn_id!r} needs the registry's login server as host, and in its extra "
                f"subscription_id and resource_group (missing: {', '.join(missing) or 'host'})"
            )
        self._connection = connection
        self._credential = credential(connection)
        self._server = server(connection)
        self._registry = self._server.partition(".")[0]
        self._group: str = extra["resource_group"]
        self._poll_seconds = poll_seconds
        self._run_id: str | None = None
        self._bases: list[tuple[str, str, str]] = []
        self._client = ContainerRegistryTasksMgmtClient(
            self._credential, extra["subscription_id"], base_url=extra.get("arm_url")
        )

    def find(self, inputs: Inputs) -> ImageReference | None:
        """The image at the inputs' tag, which must say that it was made from them: whoever may push can take a tag."""
        found = find_image(self._connection, self._credential, repository=inputs.repository, tag=inputs.tag)
        if found is None:
            return None
        image = self._built(inputs, found.digest)
        if (label := found.labels.get(KEY_LABEL, "")) != inputs.key:
            raise BuildError(
                f"{self._server}/{inputs.repository}:{inputs.tag} is {found.digest}, which this project did not build "
                f"from these inputs: its label {KEY_LABEL} is {label or 'missing'}, not {inputs.key}. Find out who "
                "pushed it, delete the tag, then run the task again"
            )
        return image

    def build(self, inputs: Inputs, context: Path, memory: Memory) -> ImageReference:
        try:
            place = f"{RUN_ID}:{inputs.tag}"
            self._run_id = self._running(memory.get(place)) or self._schedule(inputs, context)
            memory.set(place, self._run_id)
            run, output = self._follow(self._run_id)
        except HttpResponseError as error:
            raise _explained(error, self._server) from error
        if _status(run) != "Succeeded":
            message = run.run_error_message or "no message"
            raise build_failed(f"ACR run {self._run_id} ended as {_status(run)}: {message}", output)
        self._bases = _BASE.findall(output)
        pushed = [image.digest for image in run.output_images or () if image.tag == inputs.tag and image.digest]
        if pushed:
            return self._built(inputs, pushed[0])
        if found := self.find(inputs):
            return found
        raise BuildError(
            f"ACR run {self._run_id} succeeded, but {self._server} holds no {inputs.repository}:{inputs.tag}"
        )

    def base(self, inputs: Inputs) -> str:
        """The base image, with the digest that the run's log names; one that was found has no log any more."""
        name, _, digest = inputs.base_image.partition("@")
        # Docker's own images have a folder that nobody writes: `python` is `library/python`.
        named = (
            known
            for repository, tag, known in self._bases
            if f"/{repository}:{tag}".endswith(f"/{_without_server(name)}")
        )
        found = digest or next(named, "")
        return f"{name}, digest {found}" if found else f"{name}, of a digest that ACR has not told"

    def cancel(self) -> None:
        if self._run_id:
            self._client.runs.cancel(self._group, self._registry, self._run_id)

    def _built(self, inputs: Inputs, digest: str) -> ImageReference:
        return ImageReference(f"{self._server}/{inputs.repository}", digest)

    def _running(self, known: Any) -> str | None:
        """The run that an earlier try has started for these inputs, if it is not over or has succeeded.

        A task that is cleared days later may have others, and Azure forgets a run after a while.
        """
        if not known:
            return None
        try:
            status = _status(self._client.runs.get(self._group, self._registry, known))
        except ResourceNotFoundError:
            return None
        log.info("ACR run %s of an earlier try: %s", known, status)
        return str(known) if status in (*_UNDER_WAY, "Succeeded") else None

    def _schedule(self, inputs: Inputs, context: Path) -> str:
        upload = self._client.registries.get_build_source_upload_url(self._group, self._registry)
        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w:gz") as tar:
                tar.add(context, arcname=".")
            archive.seek(0)
            with BlobClient.from_blob_url(str(upload.upload_url)) as blob:
                blob.upload_blob(archive, blob_type="BlockBlob", overwrite=True)
        run = self._client.registries.schedule_run(
            self._group,
            self._registry,
            models.DockerBuildRequest(
                image_names=[f"{inputs.repository}:{inputs.tag}"],
                is_push_enabled=True,
                source_location=upload.relative_path,
                docker_file_path=DOCKERFILE,
                platform=models.PlatformProperties(os="Linux", architecture="amd64"),
                arguments=[
                    models.Argument(name=name, value=value, is_secret=False)
                    for name, value in build_arguments(inputs, context).items()
                ],
                timeout=_BUILD_SECONDS,
                # A registry with permissions per repository gives a build none of its own.
                credentials=models.Credentials(source_registry=models.SourceRegistryCredentials(identity="[caller]"))
                if self._connection.extra_dejson.get("abac")
                else None,
            ),
        )
        log.info("ACR run %s scheduled in %s", run.run_id, self._server)
        return str(run.run_id)

    def _follow(self, run_id: str) -> tuple[Any, str]:
        """Copy the run's log into the task's until the run is over; returns both."""
        output = b""
        written = self._client.runs.get_log_sas_url(self._group, self._registry, run_id)
        with BlobClient.from_blob_url(str(written.log_link)) as blob:
            while True:
                run = self._client.runs.get(self._group, self._registry, run_id)
                text = _read_from(blob, len(output))
                output += text
                for line in text.decode(errors="replace").splitlines():
                    log.info("%s", line)
                if _status(run) not in _UNDER_WAY:
                    return run, output.decode(errors="replace")
                time.sleep(self._poll_seconds)


def _without_server(image: str) -> str:
    """The name of an image without the registry, which is a first part with a dot, a port or the name localhost."""
    server, slash, rest = image.partition("/")
    return rest if slash and (set(".:") & set(server) or server == "localhost") else image


def _status(run: models.Run) -> str:
    """Azure's own word for it, whether the client knows the word or not."""
    return str(getattr(run.status, "value", run.status))


def _read_from(blob: BlobClient, offset: int) -> bytes:
    """What the log has grown by; nothing where the run has not begun to write it."""
    try:
        size = blob.get_blob_properties().size
    except ResourceNotFoundError:
        return b""
    return blob.download_blob(offset=offset, length=size - offset).readall() if size > offset else b""


def _explained(error: HttpResponseError, server: str) -> BuildError:
    code = error.error.code if error.error else ""
    if code == _NOT_ALLOWED:
        return BuildError(
            f"{server} may not run ACR Tasks ({_NOT_ALLOWED}): Azure does not allow them in subscriptions on free "
            "credit. Use another subscription, or a connection of type docker"
        )
    return BuildError(f"Azure refused: {error.status_code} {code} {error.message}".strip())
