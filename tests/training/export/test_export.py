"""The exported bundle says what scikit-learn says, family by family, and the guard notices when not."""

import shutil

import numpy as np
import onnx
import pytest

from serving.scoring.bundle import Bundle
from serving.scoring.contract import Examples, read_contract
from training.export import reasons
from training.export.bundle import write_bundle
from training.export.onnx_graph import round_down
from training.export.outliers import SHARE, Outliers
from training.export.parity import TOLERANCE, ParityError, check_parity, generate_rows
from training.search.ensemble import Member, StackedEnsemble
from training.search.models import STARTING_POINTS
from training.search.space import space_of
from training.use_case import load

ATTRITION = load("attrition")
SPACE = space_of(ATTRITION)

WEIGHTS = {"logistic": 0.8, "boosting": 0.4, "forest": 3.0}
MEMBERS = [Member(point, WEIGHTS[point["family"]]) for point in STARTING_POINTS]


@pytest.fixture(scope="module")
def outliers(real):
    return Outliers(1).fit(real.x)


@pytest.fixture(autouse=True)
def reasons_are_compared_for_few_rows(monkeypatch):
    """Here they are not looked at: test_reasons.py has the real number, on these families too."""
    monkeypatch.setattr(reasons, "_CHECKED", 8)


@pytest.mark.parametrize(
    "members", [*([member] for member in MEMBERS), MEMBERS], ids=[*WEIGHTS, "all families stacked"]
)
def test_bundle_agrees_with_scikit_learn_on_all_and_on_generated_rows(members, real, outliers, tmp_path):
    ensemble = StackedEnsemble(SPACE, members, -0.3, 1).fit(real.x, real.y)
    write_bundle(tmp_path, "employee_attrition", ensemble, outliers, real)
    parity = check_parity(tmp_path, ensemble, outliers, real.x, 1)
    assert parity.rows == 1470 + 10_000
    assert parity.probability <= TOLERANCE
    assert parity.outlier_flags == 0


def test_training_rows_with_missing_and_unknown_values_export_exactly(real, outliers, tmp_path):
    x = generate_rows(ATTRITION.features, real.x, 1470, 5)
    ensemble = StackedEnsemble(SPACE, MEMBERS, 0.0, 1).fit(x, real.y)
    holed = Outliers(1).fit(x)
    write_bundle(tmp_path, "employee_attrition", ensemble, holed, real)
    assert check_parity(tmp_path, ensemble, holed, x, 1).probability <= TOLERANCE


def test_generated_rows_hold_missing_and_unknown_values(real):
    rows = generate_rows(ATTRITION.features, real.x, 1000, 1)
    assert 0.04 < np.isnan(rows).mean() < 0.06
    assert (rows == -1).sum() > 50


@pytest.fixture(scope="module")
def written(real, outliers, tmp_path_factory):
    """A bundle of a logistic regression, and its ensemble."""
    folder = tmp_path_factory.mktemp("written") / "bundle"
    ensemble = StackedEnsemble(SPACE, MEMBERS[:1], 0.0, 1).fit(real.x, real.y)
    write_bundle(folder, "catalog.schema.employee_attrition", ensemble, outliers, real)
    return folder, ensemble


@pytest.fixture
def bundle_folder(written, tmp_path):
    """A copy that a test may change."""
    folder, ensemble = written
    return shutil.copytree(folder, tmp_path / "bundle"), ensemble


def test_export_that_differs_fails_the_run_and_says_by_how_much(bundle_folder, real, outliers):
    folder, ensemble = bundle_folder
    model = onnx.load(folder / "classifier.onnx")
    trees = next(node for node in model.graph.node if node.op_type == "TreeEnsembleRegressor")
    weights = next(attribute for attribute in trees.attribute if attribute.name == "target_weights")
    weights.floats[0] += 0.01
    onnx.save(model, folder / "classifier.onnx")
    with pytest.raises(ParityError, match=r"disagrees with scikit-learn on 11470 rows.*Nothing is registered"):
        check_parity(folder, ensemble, outliers, real.x, 1)


def test_export_that_answers_nan_fails_the_run(bundle_folder, real, outliers):
    folder, ensemble = bundle_folder
    broken = StackedEnsemble(SPACE, MEMBERS[:1], float("nan"), 1).fit(real.x, real.y)
    write_bundle(folder, "employee_attrition", broken, outliers, real)
    with pytest.raises(ParityError):
        check_parity(folder, ensemble, outliers, real.x, 1)


def test_contract_names_all_request_fields_and_the_model_without_its_catalog(bundle_folder):
    contract = read_contract(bundle_folder[0])
    assert contract.fields == ATTRITION.fields
    assert contract.name == "employee_attrition"
    assert contract.reference_rows == 1470


def test_golden_examples_are_repeated_by_the_bundle_and_identify_nobody(bundle_folder):
    import msgspec

    folder, _ = bundle_folder
    examples = msgspec.json.decode((folder / "examples.json").read_bytes(), type=Examples)
    assert len(examples.records) == 20
    assert any(record.get("DailyRate", 0) is None for record in examples.records)
    assert any(record.get("Department") == "Unheard of" for record in examples.records)
    result = Bundle.load(folder).score(examples.records)
    np.testing.assert_allclose(result.classifier__predictions, examples.classifier__predictions, atol=1e-7)
    numbers = [record["EmployeeNumber"] for record in examples.records if "EmployeeNumber" in record]
    assert set(numbers) <= {253, None}  # the contract's own example


def test_drift_references_hold_every_value_of_the_training_rows(bundle_folder, real):
    with np.load(bundle_folder[0] / "drift.npz") as arrays:
        np.testing.assert_array_equal(arrays["ref:Age"], np.sort(real.frame["Age"]))
        assert arrays["count:OverTime"].tolist() == [1054, 416, 0]
        assert "ref:EmployeeNumber" not in arrays


def test_outlier_flags_equal_scikit_learns_prediction(real, outliers, bundle_folder):
    bundle = Bundle.load(bundle_folder[0])
    flags = bundle.outlier_scores(real.x) > 0
    np.testing.assert_array_equal(flags, outliers.forest.predict(real.x) == -1)
    assert flags.mean() == pytest.approx(SHARE, abs=0.01)


def test_threshold_rounds_so_that_no_float32_changes_sides():
    rng = np.random.default_rng(0)
    values = rng.normal(size=10_000).astype(np.float32)
    ordered = np.sort(values).astype(np.float64)
    thresholds = (ordered[:-1] + ordered[1:]) / 2
    rounded = round_down(thresholds)
    assert ((ordered[:-1] <= thresholds) == (ordered[:-1].astype(np.float32) <= rounded)).all()
    assert ((ordered[1:] <= thresholds) == (ordered[1:].astype(np.float32) <= rounded)).all()
