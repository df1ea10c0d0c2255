"""What the champion was trained on: the drift references of its bundle, and its answers on its hold-out."""

import tempfile
from pathlib import Path

import msgspec
import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from numpy.typing import NDArray

from serving.scoring.bundle import Bundle
from serving.scoring.contract import DRIFT_FILE, Field
from training.data.changes import changes, told
from training.data.dataset import (
    columns_of,
    groups_of,
    holdout_rows,
    read_snapshot,
    read_table,
    snapshot_digest,
    snapshot_frame,
)
from training.inference_log.outcomes import Original
from training.registry import tags
from training.registry.tracking import Tracker
from training.registry.versions import fetch_bundle
from training.use_case import UseCase


class Reference(msgspec.Struct, frozen=True):
    """The champion's side of every comparison."""

    version: str
    """Registered version."""
    fields: tuple[Field, ...]
    """The fields that drift is judged for."""
    arrays: dict[str, NDArray[np.float64]]
    """By field: sorted values of a numeric one, counts of a category field with unknown last."""
    predictions: NDArray[np.float64]
    """Sorted answers of the champion on records that it was not trained on."""
    outliers: int
    """How many of these records it calls outliers."""
    changed: str = ""
    """Which of its fields the definition has changed since, in words: they are not judged."""


class SnapshotError(ValueError):
    """Raised when what the registry says of the champion and what its training run keeps do not agree."""


def champion_reference(tracker: Tracker, use_case: UseCase) -> Reference | None:
    """The reference of the version with alias ``champion``, or ``None`` before the first promotion."""
    version = tracker.champion()
    if version is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        bundle = fetch_bundle(version.name, version.version, Path(scratch) / "bundle")
        snapshot = _snapshot(version, Path(scratch))
        return reference_of(use_case, bundle, snapshot, str(version.version))


def original_data(tracker: Tracker, use_case: UseCase, location: str) -> Original:
    """What a retraining begins with: the data of the champion, and those at ``location`` while there is none.

    Raises ``SnapshotError`` where the champion's run keeps other data than it was trained on, ``DataError`` where a
    table at ``location`` does not hold, or the definition has another key or label than the champion's data.
    """
    version = tracker.champion()
    if version is None:
        data = read_table(use_case, location)
        return Original(data, f"{location} (digest {data.digest}; there is no champion)")
    with tempfile.TemporaryDirectory() as scratch:
        name = f"that version {version.version}, the champion, was trained on"
        data = read_snapshot(use_case, _snapshot(version, Path(scratch)), name)
    return Original(data, f"the data of version {version.version} (digest {data.digest})")


def _snapshot(version: ModelVersion, folder: Path) -> Path:
    """The file of data that a version was trained on, as its training run keeps it."""
    run_id = version.tags.get(tags.TRAINING_RUN_ID) or str(version.run_id)
    snapshot = Path(MlflowClient().download_artifacts(run_id, tags.SNAPSHOT_FILE, str(folder)))
    found, expected = snapshot_digest(snapshot), version.tags.get(tags.DATA_DIGEST)
    if found != expected:
        raise SnapshotError(
            f"{tags.SNAPSHOT_FILE} of run {run_id} has digest {found}, and version {version.version} was trained on "
            f"data with digest {expected}: restore the file, or release another version"
        )
    return snapshot


def reference_of(use_case: UseCase, bundle: Path, snapshot: Path, version: str) -> Reference:
    """The reference of a bundle folder and the snapshot of its training run.

    Both speak of the fields that the champion was trained with, which its contract lists. Those that the definition has
    today as well are judged.
    """
    loaded = Bundle.load(bundle)
    trained_with = loaded.contract.fields
    changed = changes(loaded.contract.drift_fields, use_case.fields)
    fields = tuple(field for field in loaded.contract.drift_fields if field.name not in changed)
    with np.load(bundle / DRIFT_FILE, allow_pickle=False) as arrays:
        references = {
            field.name: arrays[f"{'count' if field.kind == 'category' else 'ref'}:{field.name}"].astype(np.float64)
            for field in fields
        }
    frame = snapshot_frame(snapshot, trained_with)
    key = use_case.key if use_case.key in frame else None
    held_out = frame[holdout_rows(use_case, groups_of(frame, key, trained_with))]
    answer = loaded.score_columns(columns_of(held_out, trained_with))
    return Reference(
        version=version,
        fields=fields,
        arrays=references,
        predictions=np.sort(np.array(answer.classifier__predictions)),
        outliers=sum(answer.outliers__is_outlier),
        changed=told(changed),
    )
