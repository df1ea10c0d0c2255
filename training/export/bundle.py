"""Write the model bundle: what the scoring server, the registered model and the tests all load."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from serving.scoring.bundle import Bundle
from serving.scoring.contract import (
    CLASSIFIER_FILE,
    DRIFT_FILE,
    EXAMPLES_FILE,
    OUTLIERS_FILE,
    Examples,
    write_contract,
)
from training.data.dataset import Employees
from training.export.classifier import classifier_to_onnx
from training.export.contract import request_contract
from training.export.outliers import Outliers
from training.search.ensemble import Blend
from use_cases.attrition.fields import FEATURES, FIELDS

_EXAMPLES = 20


def write_bundle(folder: Path, model_name: str, blend: Blend, outliers: Outliers, employees: Employees) -> None:
    """Write all files of the bundle; ``employees`` are the rows that the models were trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CLASSIFIER_FILE).write_bytes(classifier_to_onnx(blend, len(FEATURES)))
    (folder / OUTLIERS_FILE).write_bytes(outliers.to_onnx())
    np.savez_compressed(folder / DRIFT_FILE, **drift_references(employees))
    # The registry's catalog and schema say where a model is kept, not what it is called.
    name = model_name.rpartition(".")[2]
    write_contract(request_contract(name, outliers.rule(), len(employees.frame)), folder)
    examples = golden_examples(Bundle.load(folder), employees)
    (folder / EXAMPLES_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(examples), indent=2))


def drift_references(employees: Employees) -> dict[str, Any]:
    """The arrays of ``drift.npz``: sorted values of each numeric field, counts of each category."""
    arrays: dict[str, Any] = {}
    for field in request_contract().drift_fields:
        values = employees.frame[field.name]
        if field.kind == "category":
            counts = [int((values == category).sum()) for category in field.categories]
            arrays[f"count:{field.name}"] = np.array([*counts, int(values.notna().sum()) - sum(counts)], np.int64)
        else:
            arrays[f"ref:{field.name}"] = np.sort(values.dropna().to_numpy(np.float64))
    return arrays


def golden_examples(bundle: Bundle, employees: Employees) -> Examples:
    """Answers for a few records, which a server must repeat: real ones, one of the contract's examples, and
    ones with missing and unknown values.
    """
    rows = np.linspace(0, len(employees.frame) - 1, _EXAMPLES - 4).astype(int)
    records = as_records(employees, rows)
    published: dict[str, int | float | str | None] = {field.name: field.example for field in FIELDS}
    missing = {**published, **{field.name: None for field in FEATURES if field.nullable}}
    unknown = {**published, **{field.name: "Unheard of" for field in FEATURES if field.kind == "category"}}
    partly = {name: None if number % 3 == 0 else value for number, (name, value) in enumerate(published.items())}
    records += [published, missing, unknown, partly]
    result = bundle.score(records)
    return Examples(
        records=tuple(records),
        classifier__predictions=tuple(result.classifier__predictions),
        outliers__score=tuple(result.outliers__score),
        outliers__is_outlier=tuple(result.outliers__is_outlier),
    )


def as_records(employees: Employees, rows: Any) -> list[dict[str, int | float | str | None]]:
    """Rows as request records, in JSON types. Identifying numbers are left out."""
    records: list[dict[str, int | float | str | None]] = []
    for row in employees.frame.iloc[rows].to_dict("records"):
        record: dict[str, int | float | str | None] = {}
        for field in FIELDS:
            value = row[field.name]
            if field.name == "EmployeeNumber":
                continue
            if value is None or value != value:
                record[field.name] = None
            else:
                record[field.name] = value if field.kind == "category" else int(value)
        records.append(record)
    return records
