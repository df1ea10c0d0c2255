"""Every classifier holds on every part of the rails, from its table to its DAGs. New folders are found by themselves.

``test_forecasts_conform.py`` has the use cases that forecast series.
"""

import json
from datetime import date, datetime

import msgspec
import numpy as np
import pandas as pd
import pytest
from airflow.dag_processing.dagbag import DagBag

from serving.app import create_app
from serving.scoring.bundle import Bundle
from serving.scoring.contract import read_contract, write_contract
from serving.scoring.encode import encode_fields, encode_records
from serving.scoring.records import RecordReader
from serving.settings import Settings
from tests.support.every_use_case import OWN, ROOT, found_in, names_of
from tests.support.nights import curate, open_duckdb, rows
from tests.support.simulate import Export, log_lines
from training.config import JobConfig
from training.data.dataset import holdout_rows, read_table
from training.data.read_file import read_raw
from training.data.synthetic import make_rows
from training.data.table import plain_columns
from training.data.validation import find_faults
from training.evaluation.evaluate import Tuning, evaluate
from training.export.bundle import as_records
from training.export.contract import request_contract
from training.export.parity import TOLERANCE
from training.inference_log.outcomes import Original, label
from training.search.ensemble import StackedEnsemble
from training.search.executor import open_engine
from training.search.space import space_of
from training.search.study import choose, search
from training.search.trial_result import REPEATS
from training.search.trials import TrialData, split_folds
from training.use_case import load

ROWS = 600
TRIALS = 3
SEED = 5
NIGHT = date(2026, 11, 2)


@pytest.fixture(scope="module", autouse=True)
def the_tests_own_use_case():
    with found_in(OWN):
        yield


@pytest.fixture(scope="module", params=names_of("binary"))
def use_case(request):
    return load(request.param)


@pytest.fixture(scope="module")
def table(use_case, tmp_path_factory):
    """The use case's own file, or made-up rows where it brings none."""
    if use_case.data:
        return use_case.folder / use_case.data
    file = tmp_path_factory.mktemp("table") / "rows.csv"
    make_rows(use_case, ROWS, SEED).to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def dataset(use_case, table):
    return read_table(use_case, str(table))


@pytest.fixture(scope="module")
def tuned(use_case, dataset):
    """What task ``tune`` of the job hands over after three trials."""
    development = dataset.take(~holdout_rows(use_case, dataset.groups))
    folds = split_folds(development.y, development.groups, REPEATS, SEED)
    data = TrialData(development.x, development.y, folds, space_of(use_case))
    with open_engine(data, 1) as engine:
        results = search(data, engine, trials=TRIALS, seed=SEED, recorded=[], record=lambda result: None)
        members, bias = choose(data, engine, results, seed=SEED)
    return Tuning(members, bias, len(results), 0, max(result.score for result in results if not result.pruned))


@pytest.fixture(scope="module")
def evaluated(use_case, dataset, tuned, tmp_path_factory):
    """The folder that task ``evaluate`` fills, and what it says."""
    folder = tmp_path_factory.mktemp("evaluated")
    config = JobConfig(
        use_case=use_case.name,
        data="",
        model_name=use_case.model_name,
        experiment=use_case.experiment,
        trials=3,
        seed=SEED,
    )
    return folder, evaluate(config, dataset, tuned, None, folder)


def example(use_case):
    return {field.name: field.example for field in use_case.fields}


def as_request(use_case, row):
    """A row of a table as a caller sends it: what is missing is left out."""
    whole = {field.name for field in use_case.fields if field.kind == "integer"}
    known = row[[field.name for field in use_case.fields]].dropna().to_dict()
    return {name: int(value) if name in whole else value for name, value in known.items()}


def test_fields_survive_the_contract_and_its_example_is_a_record_of_it(use_case, tmp_path):
    write_contract(request_contract(use_case), tmp_path)
    contract = read_contract(tmp_path)
    assert contract.fields == use_case.fields
    record = example(use_case)
    read = RecordReader(contract).read(json.dumps([record]).encode())
    np.testing.assert_array_equal(read, encode_fields({name: [value] for name, value in record.items()}, contract))


def test_requests_may_leave_out_what_no_model_sees(use_case):
    record = {field.name: field.example for field in use_case.fields if field.required}
    assert {field.name for field in use_case.features if not field.nullable} <= set(record)
    assert len(RecordReader(request_contract(use_case)).read(json.dumps([record]).encode())) == 1


def test_data_passes_the_door_as_csv_and_as_parquet(use_case, table, dataset, tmp_path):
    raw = read_raw(str(table))
    assert find_faults(use_case, raw) == []
    cells = plain_columns(raw)
    typed = {field.name: pd.to_numeric(cells[field.name]) for field in use_case.fields if field.kind != "category"}
    cells.assign(**typed).to_parquet(tmp_path / "rows.parquet", index=False)
    assert read_table(use_case, str(tmp_path / "rows.parquet")).digest == dataset.digest


def test_made_up_rows_pass_the_door(use_case, tmp_path):
    make_rows(use_case, ROWS, SEED + 1).to_csv(tmp_path / "rows.csv", index=False)
    assert len(read_table(use_case, str(tmp_path / "rows.csv")).frame) == ROWS


def test_three_trials_train_a_model_that_beats_chance(tuned, evaluated):
    assert tuned.trials == TRIALS
    assert tuned.best_roc_auc > 0.6
    assert evaluated[1]["challenger"]["roc_auc"]["low"] > 0.5


def test_bundle_answers_as_scikit_learn(use_case, dataset, tuned, evaluated):
    folder, evaluation = evaluated
    assert evaluation["parity"]["probability"] <= TOLERANCE
    bundle = Bundle.load(folder / "bundle")
    records = as_records(dataset, np.arange(100))
    development = dataset.take(~holdout_rows(use_case, dataset.groups))
    ensemble = StackedEnsemble(space_of(use_case), tuned.members, tuned.bias, SEED)
    ensemble.fit(development.x, development.y)
    read = RecordReader(bundle.contract).read(msgspec.json.encode(records))
    answered = bundle.score_fields(read).classifier__predictions
    expected = ensemble.predict_proba(encode_records(records, bundle.contract))[:, 1]
    np.testing.assert_allclose(answered, expected, atol=TOLERANCE)


def test_groups_are_compared_and_not_fed_unless_a_reason_is_given(use_case, evaluated):
    evaluation = evaluated[1]
    fed = {field.name for field in use_case.features}
    assert set(evaluation["fairness"]["groups"] if use_case.groups else ()) == {g.field for g in use_case.groups}
    assert all(group.fed_because for group in use_case.groups if group.field in fed)


def test_docs_page_and_openapi_render_and_take_the_example(use_case, evaluated):
    app = create_app(Settings(bundle=str(evaluated[0] / "bundle"), auth="off"))
    service = app.extensions["scoring"]
    service.warm_up()
    client = app.test_client()
    page = client.get("/")
    assert page.status_code == 200
    assert "/openapi.json" in page.text
    document = client.get("/openapi.json").json
    assert document["info"]["title"] == use_case.title
    shown = next(schema for schema in document["components"]["schemas"].values() if "properties" in schema
                 and set(schema["properties"]) == {field.name for field in use_case.fields})  # fmt: skip
    assert {name: part["examples"][0] for name, part in shown["properties"].items()} == example(use_case)
    answer = service.bundle.score_fields(service.reader.read(json.dumps([example(use_case)]).encode()))
    assert 0 < answer.classifier__predictions[0] < 1


def test_log_line_goes_to_a_labelled_table_that_does_not_look_ahead(use_case, dataset, tmp_path):
    """Two records of one entity: the outcome is about the one before it, and the later one stays out."""
    assert use_case.key, "a use case without a key has a test of its own (tests/training/inference_log)"
    record = as_request(use_case, dataset.frame.iloc[0])
    export = Export(tmp_path / "export", use_case=use_case, half_written=0)
    for number, (day, prediction) in enumerate(((9, 0.25), (20, 0.75))):
        when = datetime.fromisoformat(f"2026-10-{day:02d}T08:00:00+00:00")
        for line in log_lines([record], [prediction], [-0.1], when=when, request_id=f"request-{number}", client="test",
                              version="3", use_case=use_case):  # fmt: skip
            export.deliver(line, when, NIGHT)
    feed = tmp_path / "feed"
    feed.mkdir()
    outcome = {use_case.key: record[use_case.key], use_case.label.field: use_case.label.positive}
    pd.DataFrame([{**outcome, "effective_date": "2026-10-15"}]).to_csv(feed / "outcomes.csv", index=False)

    engine = open_duckdb(tmp_path / "spill", use_case=use_case)
    curate(engine, export, tmp_path / "tables", NIGHT)
    counts = label(engine, tmp_path / "tables", NIGHT, use_case, feed=feed, original=Original(dataset, "the table"))
    engine.close()

    assert (counts.outcomes, counts.rejected, counts.labelled) == (1, 0, 1)
    (labelled,) = rows(tmp_path / "tables", "labelled")
    assert labelled["prediction"] == 0.25
    assert labelled[use_case.columns[use_case.label.field]] == use_case.label.positive
    for field in use_case.fields:
        assert labelled[use_case.columns[field.name]] == record.get(field.name), field.name
    trained = read_table(use_case, str(tmp_path / "tables" / "training" / f"night={NIGHT}"))
    assert len(trained.frame) == len(dataset.frame) + 1
    assert trained.recent.sum() == 1


def test_dags_parse_without_errors(use_case):
    bag = DagBag(str(ROOT / "dags"), collect_dags=True)
    assert bag.import_errors == {}
    assert {use_case.train_dag, use_case.release_dag, use_case.rollback_dag, use_case.retrain_dag} <= set(bag.dags)
    assert {dag.owner for dag_id, dag in bag.dags.items() if dag_id == use_case.train_dag} == {use_case.owner}
