"""Exported log blobs, read through the Airflow connection ``logs``.

A connection of type ``wasb`` is the storage account that Log Analytics exports to; one of type ``fs`` is a
folder of the same layout (extra ``path``), as the embedded stack writes it.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook

from training.inference_log.azure_export import FolderSource, blobs_until
from training.inference_log.landing import Blob, Source

CONNECTION_ID = "logs"


class SourceError(ValueError):
    """Raised when connection ``logs`` cannot be used; the message says what to set."""


def open_source(container: str) -> Source:
    """The export's container, by the type of connection ``logs``."""
    connection = BaseHook.get_connection(CONNECTION_ID)
    if connection.conn_type == "fs":
        path = connection.extra_dejson.get("path")
        if not path:
            raise SourceError(f'connection {CONNECTION_ID!r} has no path: put {{"path": "/folder"}} into its extra')
        return FolderSource(Path(path) / container)
    if connection.conn_type == "wasb":
        return BlobSource(container)
    raise SourceError(
        f"connection {CONNECTION_ID!r} has type {connection.conn_type!r}: use wasb (a storage account) or fs (a folder)"
    )


class BlobSource:
    """A container of Azure Blob Storage, through the microsoft-azure provider's hook."""

    def __init__(self, container: str) -> None:
        # Imported here: the Azure client takes seconds and the embedded stack does not need it.
        from airflow.providers.microsoft.azure.hooks.wasb import WasbHook

        self._client: Any = WasbHook(wasb_conn_id=CONNECTION_ID).get_conn().get_container_client(container)
        self._container = container

    def blobs(self, last: date) -> list[Blob]:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return blobs_until(last, [(blob.name, blob.size) for blob in self._client.list_blobs()])
        except ResourceNotFoundError as error:
            raise SourceError(
                f"there is no container {self._container!r} in the storage account of connection {CONNECTION_ID!r}: "
                "the export makes it with its first record; check the export rule and [retraining] container"
            ) from error

    def read(self, name: str, start: int, end: int) -> Iterator[bytes]:
        yield from self._client.get_blob_client(name).download_blob(offset=start, length=end - start).chunks()
