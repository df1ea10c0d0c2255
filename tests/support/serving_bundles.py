"""Two small real bundles: attrition by the training package on the real data, and one of altogether other fields."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from serving.scoring.contract import (
    CLASSIFIER_FILE,
    DRIFT_FILE,
    OUTLIERS_FILE,
    Contract,
    Field,
    OutlierRule,
    write_contract,
)
from serving.scoring.encode import encode_columns
from tests.support.once import made_once
from training.data.dataset import Dataset, read_table
from training.export.bundle import write_bundle
from training.export.outliers import Outliers
from training.search.ensemble import Member, StackedEnsemble
from training.search.models import STARTING_POINTS
from training.search.space import space_of
from training.use_case import load

ATTRITION = load("attrition")
MODEL_NAME = ATTRITION.model_name
MODELS = "models.pickle"


class Attrition:
    """The attrition bundle with the scikit-learn models that it was made from: trained once, and copied."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.employees: Dataset = read_table(ATTRITION, str(data))
        shared = made_once("attrition-on-real-data", self._train)
        shutil.copytree(shared / "bundle", folder)
        models = pickle.loads((shared / MODELS).read_bytes())  # noqa: S301  (made here)
        self.classifier: StackedEnsemble = models[0]
        self.outliers: Outliers = models[1]
        self.examples: dict[str, Any] = json.loads((folder / "examples.json").read_text())

    def _train(self, shared: Path) -> None:
        employees = self.employees
        logistic, boosting, _ = STARTING_POINTS
        members = [Member(dict(logistic), 0.7), Member(dict(boosting), 0.3)]
        classifier = StackedEnsemble(space_of(ATTRITION), members, bias=0.0, seed=1).fit(employees.x, employees.y)
        outliers = Outliers(seed=1).fit(employees.x)
        write_bundle(shared / "bundle", MODEL_NAME, classifier, outliers, employees, employees)
        (shared / MODELS).write_bytes(pickle.dumps((classifier, outliers)))

    def records(self, count: int, seed: int = 0) -> list[dict[str, Any]]:
        """Real records, drawn with replacement."""
        from training.export.bundle import as_records

        rows = np.random.default_rng(seed).integers(0, len(self.employees.frame), count)
        return as_records(self.employees, rows)


FLATS = (
    Field("square metres", "number", "Size", 54.5, unit="m2", minimum=5.0, maximum=1000.0),
    Field("Stadtteil", "category", "District", "Nord", categories=("Nord", "Süd", "unknown"), required=False),
    Field("id", "integer", "Identifier", 7, role="carried", drift=False, required=False),
    Field("heating", "category", "Heating", "gas", categories=("gas", "wood"), nullable=False, sensitive=True),
    Field("rooms", "integer", "Rooms", 2, minimum=1, maximum=20),
    Field("floor: level", "number", "Floor", 1.5, required=False),
)
"""Names with spaces and colons, an umlaut; categories that collide with our own words; all kinds of rules."""


def flats_columns(rows: int, seed: int = 3) -> dict[str, list[Any]]:
    """Made-up flats, some values missing."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {
        "square metres": rng.gamma(9, 8, rows).clip(5, 1000).tolist(),
        "Stadtteil": rng.choice(["Nord", "Süd", "unknown"], rows).tolist(),
        "id": list(range(rows)),
        "heating": rng.choice(["gas", "wood"], rows).tolist(),
        "rooms": rng.integers(1, 6, rows).tolist(),
        "floor: level": rng.normal(2, 1, rows).tolist(),
    }
    for name in ("square metres", "Stadtteil", "rooms"):
        for row in rng.choice(rows, rows // 20, replace=False):
            columns[name][row] = None
    return columns


def write_flats(folder: Path) -> Contract:
    """Write a bundle whose contract shares nothing with attrition."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = flats_columns(400)
    draft = Contract(2, "flats", "Flat Finder", "Finds flats.", FLATS, OutlierRule(1, 1.0, -0.5), 400)
    x = encode_columns(columns, draft)
    y = np.array(columns["rooms"], dtype=float) > 3
    outliers = Outliers(2).fit(x)
    columns_in = ColumnTransformer([("all", SimpleImputer(strategy="median"), list(range(x.shape[1])))])
    classifier = make_pipeline(columns_in, StandardScaler(), LogisticRegression()).fit(x, y)
    model = to_onnx(
        classifier,
        initial_types=[("X", FloatTensorType([None, x.shape[1]]))],
        options={"zipmap": False, "output_class_labels": False},
        target_opset={"": 21, "ai.onnx.ml": 3},
    )
    (folder / CLASSIFIER_FILE).write_bytes(_probability_of_yes(model).SerializeToString())
    (folder / OUTLIERS_FILE).write_bytes(outliers.to_onnx())
    contract = msgspec.structs.replace(draft, outliers=outliers.rule())
    np.savez(folder / DRIFT_FILE, **_references(columns, contract))
    write_contract(contract, folder)
    return contract


def _probability_of_yes(model: Any) -> Any:
    from onnx import TensorProto, helper

    graph = model.graph
    both = graph.output[1].name
    graph.node.append(
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.INT64, [1], [1]))
    )
    graph.node.append(helper.make_node("Gather", [both, "yes"], ["probability"], axis=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1]))
    return model


def _references(columns: dict[str, list[Any]], contract: Contract) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for field in contract.drift_fields:
        values = [value for value in columns[field.name] if value is not None]
        if field.kind == "category":
            arrays[f"count:{field.name}"] = np.array([*map(values.count, field.categories), 0])
        else:
            arrays[f"ref:{field.name}"] = np.sort(np.array(values, dtype=np.float64))
    return arrays
