"""What Log Analytics data export does on Azure: the scoring pods' output as ContainerLogV2 blobs in Azurite.

``python -m compose.log_export`` follows every pod of the use cases' namespaces through the Kubernetes API and
appends to ``am-containerlogv2/WorkspaceResourceId=.../y=/m=/d=/h=/m=/PT05M.json``, by the time of the line.

Crash-only, and at least once like the real export: whatever fails ends the process, Docker starts it
again, and it repeats the last ``REPEATED`` seconds. The reader tells records apart by their own ids. The
Kubernetes API does not tell stdout from stderr, so every record says ``stdout``.
"""

import contextlib
import json
import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient, ContainerClient
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from embedded.emulators.container_log import CONTAINER, Origin, blob_name, encoded, record

KUBECONFIGS = Path("/run/kube")
SELECTOR = "app.kubernetes.io/name=scoring"
REPEATED = 300
_POLL = 2.0
_BLOCK = 2 * 2**20


def parse(line: bytes) -> tuple[str, str]:
    """``(timestamp, text)`` of one line of the log API: RFC 3339 with nanoseconds, a space, the text."""
    timestamp, _, text = line.decode(errors="replace").partition(" ")
    return timestamp, text


class Follower(threading.Thread):
    """Puts a pod's lines as ``(blob name, record)`` into ``lines``, in order, until the pod is gone."""

    def __init__(self, api: client.CoreV1Api, source: Origin, lines: "queue.Queue[tuple[str, dict[str, Any]]]") -> None:
        super().__init__(name=source.pod, daemon=True)
        self._api = api
        self._source = source
        self._lines = lines
        self._last = ""
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            while self._follow():
                time.sleep(_POLL)
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self.failure = error

    def _follow(self) -> bool:
        """Read until the stream ends; whether there may be more to come."""
        try:
            answer = self._api.read_namespaced_pod_log(
                self._source.pod, self._source.namespace, container="scoring", follow=True, timestamps=True,
                since_seconds=REPEATED, _preload_content=False,
            )  # fmt: skip
        except ApiException as error:
            if error.status == 400:  # not started yet
                return True
            if error.status == 404:
                return False
            raise
        for line in _lines(answer):
            timestamp, text = parse(line)
            if timestamp >= self._last:  # lines of one instant are told apart by nobody, and none may be lost
                self._last = timestamp
                self._lines.put((blob_name("compose", timestamp), record(self._source, timestamp, text)))
        return True


def _lines(answer: Any) -> Iterator[bytes]:
    """The complete lines of a streamed answer."""
    rest = b""
    for chunk in answer.stream(amt=None):
        *complete, rest = (rest + chunk).split(b"\n")
        yield from (line for line in complete if line)


class Exporter:
    """Follows the pods of some namespaces and appends what they write to blobs."""

    def __init__(self, container: ContainerClient, apis: dict[str, client.CoreV1Api]) -> None:
        self._container = container
        self._apis = apis
        self._lines: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue(maxsize=100_000)
        self._followers: dict[str, Follower] = {}

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Export as long as it goes on; what fails is raised."""
        while goes_on():
            self.look_for_pods()
            self.write()
            time.sleep(_POLL)

    def look_for_pods(self) -> None:
        """Start to follow new pods, and stop minding those that are gone."""
        found = self._pods()
        for uid, source in found.items():
            if uid not in self._followers:
                follower = self._followers[uid] = Follower(self._apis[source.namespace], source, self._lines)
                follower.start()
        for uid, follower in list(self._followers.items()):
            if follower.failure is not None:
                raise follower.failure
            if uid not in found and not follower.is_alive():
                del self._followers[uid]

    def _pods(self) -> dict[str, Origin]:
        """Pod uid to source, for every pod whose container has been made."""
        return {
            pod.metadata.uid: Origin(
                namespace, pod.metadata.name, pod.spec.node_name, status.container_id.partition("//")[2]
            )
            for namespace, api in self._apis.items()
            for pod in api.list_namespaced_pod(namespace, label_selector=SELECTOR).items
            for status in pod.status.container_statuses or ()
            if status.container_id
        }

    def write(self) -> int:
        """Append all that has been read; returns the number of records."""
        blobs: dict[str, list[bytes]] = defaultdict(list)
        count = 0
        while not self._lines.empty():
            name, content = self._lines.get()
            blobs[name].append(encoded(content))
            count += 1
        for name, lines in blobs.items():
            self._append(name, lines)
        return count

    def _append(self, name: str, lines: list[bytes]) -> None:
        blob = self._container.get_blob_client(name)
        if not blob.exists():
            blob.create_append_blob()
        block = b""
        for line in lines:  # whole lines only: a reader may come between two blocks
            if block and len(block) + len(line) > _BLOCK:
                blob.append_block(block)
                block = b""
            block += line
        blob.append_block(block)


def connect(kubeconfig: Path) -> dict[str, client.CoreV1Api]:
    """Each namespace that a kubeconfig of ``compose/cluster.sh`` has a context for, and a client for it."""
    contexts, _ = config.list_kube_config_contexts(str(kubeconfig))
    api = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
    return {found["context"]["namespace"]: api for found in contexts if "namespace" in found["context"]}


def main() -> None:
    """Take addresses and secrets from Airflow's own connections and kubeconfigs."""
    connection = json.loads(os.environ["AIRFLOW_CONN_LOGS"])
    service = BlobServiceClient.from_connection_string(connection["extra"]["connection_string"])
    container = service.get_container_client(CONTAINER)
    with contextlib.suppress(ResourceExistsError):  # made by an earlier start
        container.create_container()
    kubeconfigs = [KUBECONFIGS / "staging", KUBECONFIGS / "production"]

    def written() -> list[int]:
        return [path.stat().st_mtime_ns for path in kubeconfigs]

    before = written()
    apis = {namespace: api for path in kubeconfigs for namespace, api in connect(path).items()}
    print(f"{datetime.now(UTC):%H:%M:%S} exporting {', '.join(apis)} to {service.url}{CONTAINER}", flush=True)  # noqa: T201
    # Ends when there are new ones, and with them perhaps a new use case: Docker starts it again.
    Exporter(container, apis).run(lambda: written() == before)


if __name__ == "__main__":
    main()
