"""Register the model that the gate let through: one version for each job, however often this runs."""

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

from serving.scoring.contract import Contract, read_contract
from training.registry import tags
from training.registry.tracking import Tracker
from training.registry.versions import version_of_alias, version_of_run
from training.signing import bundle as bundle_signature
from training.signing.keys import SigningKey

PACKAGE = Path(__file__).resolve().parents[1]
RUNTIME = ("mlflow", "msgspec", "numpy", "onnxruntime", "pandas")
"""What loading and calling the registered model needs. The versions are those of ``requirements.txt``."""
_DESCRIPTION_LIMIT = 5_000
"""Characters that the registry keeps of a description."""
_DESCRIPTION = "mlflow.note.content"
"""On runs: what MLflow shows as their description."""
_REGISTERED = "lifecycle_registered_version"
"""On runs: the version that was made of it, written last."""
_ANY = AnyType()  # type: ignore[no-untyped-call]


ModelArguments = Callable[[Path, Path], dict[str, Any]]
"""From a bundle's folder and a scratch folder to what ``mlflow.pyfunc.log_model`` is told: code, artifacts, pins."""


def register(
    tracker: Tracker,
    run: Run,
    bundle: Path,
    version_tags: dict[str, str],
    arguments: ModelArguments,
    key: SigningKey | None = None,
) -> ModelVersion:
    """Find or make this run's model version, signed with ``key``, and give it the alias ``challenger``.

    May be interrupted and repeated anywhere: a version is found by its run, a logged model that no version
    was made of is used, and tags are written together with the version. Once all is done the alias is left
    alone: a release or a newer challenger may have moved it. Where a try died before that, a newer challenger stays.
    """
    name = tracker.model_name
    version = version_of_run(tracker.client, name, run.info.run_id, tracker.run_key)
    if version is None:
        source = _logged_model(run) or _log_model(run, bundle, arguments)
        if key is not None:  # before there is a version, which nobody then finds without its signature
            signed = bundle_signature.sign(bundle, bundle_signature.subject(name, run.info.run_id), key)
            tracker.client.log_text(run.info.run_id, signed, tags.BUNDLE_SIGNATURE_FILE)
        version = mlflow.register_model(source, name, tags=version_tags)
    if _REGISTERED not in run.data.tags:
        challenger = version_of_alias(tracker.client, name, tags.CHALLENGER)
        if challenger is None or int(challenger.version) < int(version.version):
            tracker.client.set_registered_model_alias(name, tags.CHALLENGER, version.version)
        tracker.client.set_tag(run.info.run_id, _REGISTERED, str(version.version))
    return version


def describe(tracker: Tracker, run: Run, version: ModelVersion, card: str) -> None:
    """Let the model card be what people read first of run, version and model."""
    cut = card if len(card) <= _DESCRIPTION_LIMIT else f"{card[: _DESCRIPTION_LIMIT - 40]}\n\n(The rest: model_card.md)"
    tracker.client.set_tag(run.info.run_id, _DESCRIPTION, cut)
    tracker.client.update_model_version(version.name, version.version, cut)
    tracker.client.update_registered_model(version.name, cut)


def pinned_requirements(requirements: str, runtime: Sequence[str] = RUNTIME) -> list[str]:
    """``name==version`` of the ``runtime`` packages, from the text of a compiled requirements file."""
    pins = dict(re.findall(r"^([\w.-]+)==([^\s\\;]+)", requirements, flags=re.MULTILINE))
    if missing := [name for name in runtime if name not in pins]:
        raise ValueError(f"training/requirements.txt has no pin for {', '.join(missing)}: run make lock")
    return [f"{name}=={pins[name]}" for name in runtime]


def signature(contract: Contract) -> ModelSignature:
    """Inputs from the contract, outputs as ``pyfunc_model`` gives them without ``explain``.

    Numbers are of any type, for MLflow has none that takes what the server takes: a column of whole numbers is float64
    in pandas as soon as a value is missing or was written as ``36.0``, which ``long`` refuses, and int64 where none
    is, which ``double`` refuses. MLflow looks before the model is asked, so that the model cannot convert them.
    """
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec("string" if field.kind == "category" else _ANY, field.name, required=field.required)
        for field in contract.fields
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec("double", "classifier__predictions"),
        ColSpec("boolean", "outliers__is_outlier"),
        ColSpec("double", "outliers__score"),
    ]
    params = ParamSchema([ParamSpec("explain", DataType.boolean, False)])
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs), params=params)


def _logged_model(run: Run) -> str | None:
    """Address of a model that an interrupted try has logged completely."""
    outputs = run.outputs.model_outputs if run.outputs else []
    for output in outputs:
        model = mlflow.get_logged_model(output.model_id)
        if str(model.status) == "READY":
            return str(model.model_uri)
    return None


def _log_model(run: Run, bundle: Path, arguments: ModelArguments) -> str:
    with tempfile.TemporaryDirectory() as scratch, mlflow.start_run(run_id=run.info.run_id):
        logged: Any = mlflow.pyfunc.log_model(
            name="model", artifacts={"bundle": str(bundle)}, **arguments(bundle, Path(scratch))
        )
    return str(logged.model_uri)


def classifier_arguments(bundle: Path, scratch: Path) -> dict[str, Any]:
    """How a classifier is logged: ``pyfunc_model.py`` with the scoring library."""
    contract = read_contract(bundle)
    return {
        "python_model": str(PACKAGE / "registry" / "pyfunc_model.py"),
        "code_paths": [str(_scoring_code(scratch))],
        "pip_requirements": pinned_requirements((PACKAGE / "requirements.txt").read_text()),
        "signature": signature(contract),
        # The contract's own, as the API's document has it: a record of the data may be a person's.
        "input_example": pd.DataFrame([{field.name: field.example for field in contract.fields}]),
    }


def _scoring_code(scratch: Path) -> Path:
    """A copy of the package ``serving`` that holds the scoring library and nothing of the server."""
    package = scratch / "serving"
    shutil.copytree(
        PACKAGE.parent / "serving" / "scoring",
        package / "scoring",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (package / "__init__.py").write_text('"""The scoring library of the service."""\n')
    return package
