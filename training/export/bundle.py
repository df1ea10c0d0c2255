"""Write the model bundle: what the scoring server, the registered model and the tests all load."""

import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.bundle import Bundle
from serving.scoring.contract import (
    CLASSIFIER_FILE,
    DRIFT_FILE,
    EXAMPLES_FILE,
    OUTLIERS_FILE,
    Band,
    Examples,
    Field,
    write_contract,
)
from serving.scoring.encode import as_columns, encode_fields
from serving.scoring.runtime import Model
from training.data.dataset import Dataset
from training.export.classifier import classifier_to_onnx, comes_apart, take_apart
from training.export.contract import request_contract
from training.export.outliers import Outliers
from training.export.own_steps import classifier_in_steps
from training.export.reasons import write_reasons
from training.search.ensemble import StackedEnsemble

log = logging.getLogger(__name__)
_EXAMPLES = 20


def write_bundle(
    folder: Path,
    model_name: str,
    ensemble: StackedEnsemble,
    outliers: Outliers,
    dataset: Dataset,
    holdout: Dataset | None = None,
) -> None:
    """Write all files of the bundle; ``dataset`` holds the rows that the models were trained on.

    ``holdout``: the rows by which records are told to be in the top band; without it the bundle has none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    use_case = dataset.use_case
    # A column that a transformer makes of several fields is not a sum over fields that could be taken apart.
    parts = take_apart(ensemble) if comes_apart(ensemble) else None
    classifier = classifier_to_onnx(parts, len(use_case.features)) if parts else classifier_in_steps(ensemble)
    (folder / CLASSIFIER_FILE).write_bytes(classifier)
    (folder / OUTLIERS_FILE).write_bytes(outliers.to_onnx())
    np.savez_compressed(folder / DRIFT_FILE, **drift_references(dataset))
    tested = {field.name for field in drift_fields(dataset)}
    contract = msgspec.structs.replace(
        request_contract(use_case, outliers.rule(), len(dataset.frame)),
        # The registry's catalog and schema say where a model is kept, not what it is called.
        name=model_name.rpartition(".")[2],
        fields=tuple(msgspec.structs.replace(field, drift=field.name in tested) for field in use_case.fields),
        band=_band(use_case.top_share, ensemble.predict_proba(holdout.x)[:, 1]) if holdout else None,
    )
    write_contract(contract, folder)
    if parts:
        served = Model(folder / CLASSIFIER_FILE, len(use_case.features)).run(dataset.x).astype(np.float64)
        write_reasons(folder, parts, dataset.x, served, ensemble.seed)
    else:
        log.warning("no reasons: a model with own features, or of a class that is not a sum, gives none")
    examples = golden_examples(Bundle.load(folder), dataset)
    (folder / EXAMPLES_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(examples), indent=2))


def _band(share: float, probabilities: NDArray[np.float64]) -> Band:
    """The cut half way between two probabilities above which the part of them lies that is nearest to ``share``."""
    ordered, counts = np.unique(probabilities, return_counts=True)
    above = 1 - np.cumsum(counts) / len(probabilities)
    last = int(np.abs(above - share).argmin())
    return Band(share, float(ordered[last : last + 2].mean()))


def drift_fields(dataset: Dataset) -> tuple[Field, ...]:
    """The fields that drift can be tested for: those that the use case wants tested, less the key, free text, and what
    has no value in these rows.
    """
    return tuple(
        field
        for field in dataset.use_case.fields
        if field.drift
        and field.name != dataset.use_case.key
        and (field.kind != "category" or field.categories)
        and dataset.frame[field.name].notna().any()
    )


def drift_references(dataset: Dataset) -> dict[str, Any]:
    """The arrays of ``drift.npz``: sorted values of each numeric field, counts of each category."""
    arrays: dict[str, Any] = {}
    for field in drift_fields(dataset):
        values = dataset.frame[field.name]
        if field.kind == "category":
            counts = [int((values == category).sum()) for category in field.categories]
            arrays[f"count:{field.name}"] = np.array([*counts, int(values.notna().sum()) - sum(counts)], np.int64)
        else:
            arrays[f"ref:{field.name}"] = np.sort(values.dropna().to_numpy(np.float64))
    return arrays


def golden_examples(bundle: Bundle, dataset: Dataset) -> Examples:
    """Answers for a few records, which a server must repeat: real ones, one of the contract's examples, and
    ones with missing and unknown values.
    """
    fields, features = dataset.use_case.fields, dataset.use_case.features
    rows = np.linspace(0, len(dataset.frame) - 1, _EXAMPLES - 4).astype(int)
    records = as_records(dataset, rows)
    published: dict[str, int | float | str | None] = {field.name: field.example for field in fields}
    missing = {**published, **{field.name: None for field in features if field.nullable}}
    unknown = {**published, **{field.name: "Unheard of" for field in features if field.kind == "category"}}
    partly = {
        field.name: None if number % 3 == 0 and field.nullable else field.example for number, field in enumerate(fields)
    }
    records += [published, missing, unknown, partly]
    result = bundle.score(records)
    encoded = encode_fields(as_columns(records, bundle.contract), bundle.contract)
    explained = bundle.explain(encoded, lambda record, name: records[record][name]) if bundle.reasons else ()
    return Examples(
        records=tuple(records),
        classifier__predictions=tuple(result.classifier__predictions),
        outliers__score=tuple(result.outliers__score),
        outliers__is_outlier=tuple(result.outliers__is_outlier),
        reasons=tuple({reason.field: reason.effect for reason in found.reasons} for found in explained),
    )


def as_records(dataset: Dataset, rows: Any) -> list[dict[str, int | float | str | None]]:
    """Rows as request records, in JSON types.

    The key may identify a person, so it is left out, or is the contract's example where a request must have one. The
    same goes for a missing value of a field that takes no ``null``.
    """
    records: list[dict[str, int | float | str | None]] = []
    for row in dataset.frame.iloc[rows].to_dict("records"):
        record: dict[str, int | float | str | None] = {}
        for field in dataset.use_case.fields:
            value = row[field.name]
            if field.name == dataset.use_case.key or (_is_missing(value) and not field.nullable):
                if field.required:
                    record[field.name] = field.example
            elif _is_missing(value):
                record[field.name] = None
            else:
                record[field.name] = int(value) if field.kind == "integer" else value
        records.append(record)
    return records


def _is_missing(value: Any) -> bool:
    return value is None or bool(value != value)
