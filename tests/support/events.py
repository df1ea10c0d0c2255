"""Events as Event Grid writes them, in both of its schemas."""

from typing import Any

from lifecycle.events.feeds import BLOB_CREATED

CONTAINER = "lake"
BRONZE, OUTCOMES = f"abfs://logs@{CONTAINER}/bronze", f"abfs://logs@{CONTAINER}/outcomes"
SUBJECTS = f"/blobServices/default/containers/{CONTAINER}/blobs/bronze/"
_TOPIC = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a"


def blob_created(
    name: str,
    *,
    folder: str = "bronze",
    container: str = CONTAINER,
    etag: str = "0x8D4BCC2E4835CD0",
    api: str = "PutBlockList",
    at: str = "2026-11-02T03:04:05.1234567Z",
    event: str = "831e1650-001e-001b-66ab-eeb76e069631",
) -> dict[str, Any]:
    """In Event Grid's schema."""
    return {
        "topic": _TOPIC,
        "subject": f"/blobServices/default/containers/{container}/blobs/{folder}/{name}",
        "eventType": BLOB_CREATED,
        "eventTime": at,
        "id": event,
        "data": {
            "api": api, "clientRequestId": "c", "requestId": "r", "eTag": etag, "contentType": "text/csv",
            "contentLength": 524288, "blobType": "BlockBlob", "url": f"https://a.blob/{container}/{folder}/{name}",
            "sequencer": "00000000000004420000000000028963", "storageDiagnostics": {"batchId": "b"},
        },
        "dataVersion": "",
        "metadataVersion": "1",
    }  # fmt: skip


def cloud_event(name: str, **values: Any) -> dict[str, Any]:
    """The same as a CloudEvent."""
    event = blob_created(name, **values)
    named = {"id": event["id"], "subject": event["subject"], "data": event["data"]}
    return {"specversion": "1.0", "source": _TOPIC, "type": BLOB_CREATED, "time": event["eventTime"], **named}
