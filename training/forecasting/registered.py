"""How a forecaster is registered in MLflow: as code with the bundle beside it, so that nothing is unpickled."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType

from training.forecasting.definition import Series
from training.forecasting.forecaster import FLAGS, Forecaster
from training.registry.content import content_digest
from training.registry.register import PACKAGE, pinned_requirements

RUNTIME = ("duckdb", "mlflow", "msgspec", "numpy", "onnx", "onnxruntime", "pandas", "scikit-learn")
_SHIPPED = ("training/__init__.py", "training/export", "training/forecasting", "serving/__init__.py", "serving/scoring")
"""What the forecaster imports, below the root of the code."""


def arguments(bundle: Path, scratch: Path) -> dict[str, Any]:
    """For ``mlflow.pyfunc.log_model``; the bundle's digest stands in the model's metadata."""
    forecaster = Forecaster.load(bundle)
    return {
        "python_model": str(PACKAGE / "forecasting" / "pyfunc_model.py"),
        "code_paths": _code(scratch),
        "pip_requirements": pinned_requirements((PACKAGE / "requirements.txt").read_text(), RUNTIME),
        "signature": _signature(forecaster.definition),
        "input_example": _example(forecaster),
        "metadata": {"bundle_digest": content_digest(bundle)},
    }


def _signature(definition: Series) -> ModelSignature:
    """The columns of the history in, those of a forecast out."""
    time = ColSpec(DataType.datetime, definition.time)
    any_type = AnyType()  # type: ignore[no-untyped-call]
    key = [ColSpec(any_type, name) for name in definition.key]
    label = ColSpec(DataType.double, definition.label.field, required=False)
    known = [ColSpec(DataType.double, one.field, required=False) for one in definition.known]
    others = [ColSpec(DataType.double, name, required=False) for name in (*definition.unknown, *definition.static)]
    amounts = [ColSpec(DataType.double, name) for name in ("forecast", "q10", "q50", "q90")]
    flags = [ColSpec(DataType.boolean, name) for name in FLAGS]
    answer = [ColSpec(DataType.long, "horizon"), *amounts, ColSpec(DataType.string, "model"), *flags]
    return ModelSignature(inputs=Schema([*key, time, label, *known, *others]), outputs=Schema([*key, time, *answer]))


def _example(forecaster: Forecaster) -> pd.DataFrame:
    """One row of a history, to show its columns."""
    definition, codes = forecaster.definition, forecaster.manifest.codes
    amounts = [name for name in definition.columns if name not in (*definition.key, definition.time)]
    row = {name: codes[name][0] for name in definition.key} | dict.fromkeys(amounts, 1.0)
    row[definition.time] = pd.Timestamp(forecaster.trained_until)
    return pd.DataFrame([row])[list(definition.columns)]


def _code(scratch: Path) -> list[str]:
    """Copies of the packages that the forecaster needs."""
    root = PACKAGE.parent
    for name in _SHIPPED:
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (root / name).is_file():
            shutil.copyfile(root / name, target)
        else:
            shutil.copytree(root / name, target, ignore=shutil.ignore_patterns("__pycache__"))
    return [str(scratch / "training"), str(scratch / "serving")]
