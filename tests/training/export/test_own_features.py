"""A use case's own features are trained inside the folds, exported inside the classifier, and answered exactly."""

import json
import pickle
import re
from typing import ClassVar

import msgspec
import numpy as np
import onnx
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)

from serving.scoring.bundle import Bundle, NoReasonsError
from serving.scoring.encode import as_columns, encode_fields
from tests.support.bundles import make_dataset
from tests.support.every_use_case import ROOT, found_in
from tests.support.inline_engine import InlineEngine
from training import training_job as job
from training.config import JobConfig
from training.data.dataset import Dataset, holdout_rows
from training.evaluation.evaluate import Tuning, evaluate
from training.evaluation.model_card import write_card
from training.export import parity
from training.export.bundle import as_records, write_bundle
from training.export.outliers import Outliers
from training.export.own_steps import check_convertible
from training.export.parity import TOLERANCE, generate_rows
from training.search.design import DesignMatrix
from training.search.ensemble import Member, StackedEnsemble
from training.search.features import FeaturesError, OwnFeatures
from training.search.space import space_of
from training.search.study import choose, search
from training.search.trial_result import REPEATS
from training.search.trials import Fit, TrialData, fit_fold, split_folds
from training.use_case import load

NAME = "repairs_by_features"
SEED = 5


@pytest.fixture(scope="module", autouse=True)
def definition():
    with found_in(ROOT / "tests" / "support" / "own_features"):
        yield


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(load(NAME), 600, 4)


@pytest.fixture(scope="module")
def space(dataset):
    return space_of(dataset.use_case)


@pytest.fixture(scope="module")
def evaluated(dataset, space, tmp_path_factory):
    """What three trials and the evaluation leave: the evaluation, its folder, and the ensemble that was chosen."""
    development = dataset.take(~holdout_rows(dataset.use_case, dataset.groups))
    folds = split_folds(development.y, development.groups, REPEATS, SEED)
    data = TrialData(development.x, development.y, folds, space)
    engine, scored = InlineEngine(data), {}
    results = search(data, engine, trials=3, seed=SEED, scored=scored)
    members, bias = choose(data, engine, results, seed=SEED, scored=scored)
    config = JobConfig(use_case=NAME, data="", model_name=NAME, experiment=NAME, trials=3, seed=SEED)
    folder = tmp_path_factory.mktemp("evaluated")
    evaluation = evaluate(config, dataset, Tuning(members, bias, 3, 0, 0.8), None, folder)
    card = write_card(config, dataset.use_case, members, evaluation)
    ensemble = StackedEnsemble(space, members, bias, SEED).fit(development.x, development.y)
    return evaluation, folder / "bundle", ensemble, card


@pytest.fixture(scope="module")
def outliers(dataset):
    return Outliers(SEED).fit(dataset.x)


def with_features(dataset: Dataset, outliers, make_features, points, folder):
    """A bundle of some starting points, all of the same weight, with a transformer, and their ensemble."""
    space = msgspec.structs.replace(space_of(dataset.use_case), make_features=make_features)
    ensemble = StackedEnsemble(space, [Member(point, 0.5) for point in points], -0.2, SEED)
    ensemble.fit(dataset.x, dataset.y)
    write_bundle(folder, "repairs", ensemble, outliers, dataset)
    return ensemble


def difference(folder, ensemble, outliers, x):
    """The largest between bundle and ensemble, on fewer generated rows than the evaluation above has asked about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "GENERATED_ROWS", 1_000)
        return parity.check_parity(folder, ensemble, outliers, x, 1).probability


def test_every_pipeline_puts_the_transformer_between_design_and_model(space):
    for point in space.starting_points:
        pipeline = space.build(point, SEED)
        assert [type(step) for step in pipeline[:-1]] == [DesignMatrix, OwnFeatures]
        assert pipeline[1].transformer is not space.build(point, SEED)[1].transformer
    sent = pickle.loads(pickle.dumps(space))  # noqa: S301  (made here)
    assert sent.make_features is space.make_features


class Counting(PolynomialFeatures):
    """Products that keep how many rows each fit saw."""

    fitted: ClassVar[list[int]] = []

    def fit(self, X, y=None):
        self.fitted.append(len(X))
        return super().fit(X, y)


@pytest.mark.parametrize("fold", [0, 3])
def test_transformer_is_fitted_on_the_training_rows_of_a_fold_alone(space, dataset, fold, monkeypatch):
    monkeypatch.setattr(Counting, "fitted", [])
    folds = split_folds(dataset.y, dataset.groups, 1, SEED)
    data = TrialData(dataset.x, dataset.y, folds, msgspec.structs.replace(space, make_features=Counting))
    for point in space.starting_points:
        fit_fold(data, Fit(point, SEED, 0, fold))
    assert Counting.fitted == [int((folds[0] != fold).sum())] * 3


def test_trained_model_with_own_features_is_exported_exactly(evaluated, dataset):
    evaluation, folder, ensemble, _ = evaluated
    assert evaluation["parity"]["probability"] <= TOLERANCE
    assert evaluation["parity"]["rows"] == 600 + 10_000
    rows = np.vstack([dataset.x, generate_rows(dataset.use_case.features, dataset.x, 2000, 3)])
    assert np.isnan(rows).any(axis=0).all()
    assert (rows == -1).any()
    answers = Bundle.load(folder).probabilities(rows)
    np.testing.assert_allclose(answers, ensemble.predict_proba(rows)[:, 1], atol=TOLERANCE)
    assert np.ptp(answers) > 0.2


def test_bundle_with_own_features_answers_records_and_gives_no_reasons(evaluated, dataset):
    evaluation, folder, ensemble, card = evaluated
    bundle = Bundle.load(folder)
    records = as_records(dataset, range(600))
    records[0] = {**records[0], "maker": "Unheard of", "heat": None}
    fields = encode_fields(as_columns(records, bundle.contract), bundle.contract)
    x = dataset.x.copy()
    names = [field.name for field in dataset.use_case.features]
    x[0, names.index("maker")], x[0, names.index("heat")] = -1, np.nan
    np.testing.assert_allclose(
        bundle.score(records).classifier__predictions, ensemble.predict_proba(x)[:, 1], atol=TOLERANCE
    )
    assert evaluation["gives_reasons"] is False
    assert "It gives no reasons for single records." in card
    assert "features of its own" in card
    with pytest.raises(NoReasonsError, match="this model gives no reasons"):
        next(bundle.explain(fields, lambda record, name: records[record][name]))


def test_server_needs_nothing_but_the_graph(evaluated):
    model = onnx.load(evaluated[1] / "classifier.onnx")
    assert {opset.domain for opset in model.opset_import} == {"", "ai.onnx.ml"}
    assert "ReduceProd" in {node.op_type for node in model.graph.node}


def bins():
    return KBinsDiscretizer(3, strategy="uniform")


def ordinal_bins():
    return KBinsDiscretizer(5, strategy="uniform", encode="ordinal")


def splines():
    return SplineTransformer(5, knots="quantile", degree=2, include_bias=False)


def products_of_some():
    return ColumnTransformer(
        [("products", PolynomialFeatures(3, include_bias=False), [0, 1, 2]), ("splines", SplineTransformer(), [3])],
        remainder="passthrough",
    )


def scaled_products():
    return make_pipeline(PolynomialFeatures(2, include_bias=False), StandardScaler())


@pytest.mark.parametrize("family", [0, 1, 2], ids=["logistic", "boosting", "forest"])
@pytest.mark.parametrize("make_features", [bins, ordinal_bins, splines, products_of_some, scaled_products])
def test_what_docs_name_converts_for_every_family(make_features, family, dataset, outliers, space, tmp_path):
    point = space.starting_points[family]
    ensemble = with_features(dataset, outliers, make_features, [point], tmp_path)
    assert difference(tmp_path, ensemble, outliers, dataset.x) <= TOLERANCE


def test_example_of_the_docs_converts(dataset, outliers, space, tmp_path):
    text = (ROOT / "docs" / "your-model.md").read_text()
    (source,) = re.findall(r"```python\n((?:(?!```).)*def make_features.*?)```", text, re.DOTALL)
    example = {}
    exec(source, example)  # noqa: S102  (our own page)
    ensemble = with_features(dataset, outliers, example["make_features"], space.starting_points, tmp_path)
    assert difference(tmp_path, ensemble, outliers, dataset.x) <= TOLERANCE


def quintiles():
    return KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf")


@pytest.mark.filterwarnings("ignore:Bins whose width are too small")
def test_cuts_at_the_logarithms_of_training_rows_are_exact(real, tmp_path):
    point = space_of(real.use_case).starting_points[0]
    outliers = Outliers(SEED).fit(real.x)
    ensemble = with_features(real, outliers, quintiles, [{**point, "alpha": 1.0}], tmp_path)
    assert ensemble.pipelines_[0][0].skewed_.any()
    assert difference(tmp_path, ensemble, outliers, real.x) <= TOLERANCE


@pytest.mark.parametrize("kind", ["category", "number"])
def test_table_of_one_kind_of_feature_is_exported_exactly(kind, dataset, space, tmp_path):
    features = tuple(
        msgspec.structs.replace(field, role="carried")
        if field.role == "feature" and (field.kind == "category") != (kind == "category")
        else field
        for field in dataset.use_case.fields
    )
    use_case = msgspec.structs.replace(dataset.use_case, fields=features, groups=dataset.use_case.groups[:1])
    one_kind = msgspec.structs.replace(dataset, use_case=use_case)
    assert {field.kind == "category" for field in use_case.features} == {kind == "category"}
    outliers = Outliers(SEED).fit(one_kind.x)
    ensemble = with_features(one_kind, outliers, scaled_products, space.starting_points, tmp_path)
    assert difference(tmp_path, ensemble, outliers, one_kind.x) <= TOLERANCE


def squares():
    return FunctionTransformer(np.square)


def test_transformer_that_does_not_convert_is_refused_before_the_search_and_at_the_export(
    dataset, outliers, space, tmp_path
):
    unknown = msgspec.structs.replace(space, make_features=squares)
    wanted = (
        r"transformer of features.py does not convert to ONNX in float64: FunctionTransformer\(.*docs/your-model.md"
    )
    with pytest.raises(FeaturesError, match=f"(?s){wanted}"):
        check_convertible(unknown, dataset.x, dataset.y, SEED)
    with pytest.raises(FeaturesError, match=f"(?s){wanted}"):
        with_features(dataset, outliers, squares, space.starting_points, tmp_path)
    assert not (tmp_path / "classifier.onnx").exists()


def test_job_refuses_such_a_transformer_before_its_first_trial(dataset, store, tmp_path, monkeypatch):
    dataset.frame.to_parquet(tmp_path / "machines.parquet")
    module = dataset.use_case.part("features")
    monkeypatch.setattr(module, "make_features", squares)
    given = {"use_case": NAME, "data": str(tmp_path / "machines.parquet"), "model_name": NAME, "experiment": NAME}
    config = json.dumps({**given, "trials": 3, "seed": SEED, "parallel_trials": 1})
    with pytest.raises(FeaturesError, match="does not convert"):
        job.main(["all", "--run-key", "unconvertible", "--config", config])
    experiment = store.get_experiment_by_name(NAME).experiment_id
    runs = store.search_runs([experiment])
    assert [run.info.status for run in runs] == ["FAILED"]
    assert store.search_model_versions(f"name = '{NAME}'") == []


def test_own_features_that_convert_pass_the_check(dataset, space):
    check_convertible(space, dataset.x, dataset.y, SEED)


def test_features_file_without_the_function_is_refused(tmp_path):
    (tmp_path / "no_function").mkdir()
    (tmp_path / "no_function" / "__init__.py").write_text(
        "from msgspec.structs import replace\n"
        "from tests.support.repairs import REPAIRS\n"
        "USE_CASE = replace(REPAIRS, name='no_function', title='No function')\n"
    )
    (tmp_path / "no_function" / "features.py").write_text("make = None\n")
    with (
        found_in(tmp_path),
        pytest.raises(FeaturesError, match=r"no_function/features.py defines no make_features\(\)"),
    ):
        space_of(load("no_function"))
