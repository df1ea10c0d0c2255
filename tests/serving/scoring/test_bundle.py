"""A loaded bundle answers as the scikit-learn models that it was made from."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serving.scoring.bundle import Bundle, BundleError
from serving.scoring.contract import CLASSIFIER_FILE, CONTRACT_FILE, DRIFT_FILE, OUTLIERS_FILE
from tests.support.serving_bundles import Attrition, flats_columns
from tests.support.serving_processes import ROOT


def test_probabilities_equal_scikit_learns_on_all_rows(attrition: Attrition, bundle: Bundle) -> None:
    result = bundle.score_columns(attrition.employees.columns())
    expected = attrition.classifier.predict_proba(attrition.employees.x)[:, 1]
    assert len(expected) == 1470
    np.testing.assert_allclose(result.classifier__predictions, expected, atol=1e-5)


def test_outlier_flags_equal_isolation_forests_on_all_rows(attrition: Attrition, bundle: Bundle) -> None:
    result = bundle.score_columns(attrition.employees.columns())
    forest, x = attrition.outliers.forest, attrition.employees.x
    assert result.outliers__is_outlier == (forest.predict(x) == -1).tolist()
    np.testing.assert_allclose(result.outliers__score, -forest.decision_function(x), atol=1e-5)
    assert 0 < sum(result.outliers__is_outlier) < 200


def test_records_one_by_one_answer_as_in_one_batch(attrition: Attrition, bundle: Bundle) -> None:
    records = attrition.examples["records"]
    batch = bundle.score(records)
    single = [bundle.score([record]) for record in records]
    one_by_one = [result.classifier__predictions[0] for result in single]
    np.testing.assert_allclose(batch.classifier__predictions, one_by_one, atol=1e-6)
    assert batch.outliers__is_outlier == [result.outliers__is_outlier[0] for result in single]
    np.testing.assert_allclose(batch.classifier__predictions, attrition.examples["classifier__predictions"], atol=1e-6)


def test_drift_maps_have_every_drift_field_and_agree_with_each_other(attrition: Attrition, bundle: Bundle) -> None:
    result = bundle.score([record | {"Age": 60} for record in attrition.records(50)])
    names = [field.name for field in bundle.contract.drift_fields]
    assert list(result.drift__p_value) == list(result.drift__is_drift) == list(result.drift__magnitude) == names
    assert result.drift__sample_size == 50
    for name in names:
        assert result.drift__magnitude[name] == 1 - result.drift__p_value[name]
        assert result.drift__is_drift[name] == (result.drift__p_value[name] < 0.05)
        assert result.drift__adjusted_p_value[name] >= result.drift__p_value[name]
    assert result.drift__is_drift["Age"]


def test_adjusted_drift_judges_by_the_adjusted_p_values(attrition: Attrition, bundle: Bundle) -> None:
    differs = 0
    for seed in range(40):
        records = attrition.records(1, seed=seed)
        raw, adjusted = bundle.score(records), bundle.score(records, adjusted=True)
        assert raw.drift__adjusted_p_value == adjusted.drift__adjusted_p_value
        assert adjusted.drift__is_drift == {n: p < 0.05 for n, p in raw.drift__adjusted_p_value.items()}
        differs += raw.drift__is_drift != adjusted.drift__is_drift
    assert differs > 5  # single records often look drifted by the raw p-values


def test_bundle_of_another_contract_is_served_by_the_same_code(flats: Path) -> None:
    result = Bundle.load(flats).score_columns(flats_columns(30))
    assert list(result.drift__p_value) == ["square metres", "Stadtteil", "heating", "rooms", "floor: level"]
    assert len(result.classifier__predictions) == 30


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (CONTRACT_FILE, b"{}", "missing required field"),
        (CONTRACT_FILE, None, "No such file"),
        (CLASSIFIER_FILE, b"no model", "classifier.onnx is not a model that ONNX Runtime can run"),
        (DRIFT_FILE, b"no zip", "cannot be loaded"),
        (OUTLIERS_FILE, "flats", "outliers.onnx takes .* where the contract has X with 27 features"),
        (DRIFT_FILE, "flats", "drift.npz has no array 'count:BusinessTravel'"),
    ],
)
def test_unusable_bundle_is_refused_with_the_reason(
    attrition: Attrition, flats: Path, tmp_path: Path, name: str, content: bytes | str | None, message: str
) -> None:
    broken = tmp_path / "bundle"
    shutil.copytree(attrition.folder, broken)
    (broken / name).unlink()
    if isinstance(content, bytes):
        (broken / name).write_bytes(content)
    elif content == "flats":
        shutil.copy(flats / name, broken / name)
    with pytest.raises(BundleError, match=message):
        Bundle.load(broken)


def test_scoring_imports_neither_flask_nor_pandas_and_starts_no_thread(attrition: Attrition) -> None:
    program = (
        "import json, os, sys; from serving.scoring.bundle import Bundle; bundle = Bundle.load(sys.argv[1]);"
        "bundle.score([{}]);"
        "print(json.dumps([len(os.listdir('/proc/self/task')), sorted(sys.modules)]))"
    )
    environ = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", program, str(attrition.folder)], env=environ, capture_output=True, text=True, check=True
    )
    threads, modules = json.loads(run.stdout)
    assert threads == 1
    assert not {"flask", "pandas", "sklearn", "mlflow", "scipy", "gunicorn"} & set(modules)
