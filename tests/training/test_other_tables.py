"""Tables that have nothing in common with attrition's: text keys, no key, other labels, odd names, absent columns."""

import json
import re
import sys

import mlflow
import msgspec
import numpy as np
import pandas as pd
import pytest

import use_cases
from serving.scoring.bundle import Bundle
from serving.scoring.contract import read_contract
from tests.support.bundles import make_bundle, make_dataset
from tests.support.repairs import REPAIRS, WITHOUT_KEY
from training import training_job as job
from training.config import JobConfig
from training.data.data_error import DataError
from training.data.dataset import holdout_rows, read_snapshot, read_table, write_snapshot
from training.data.synthetic import make_rows
from training.evaluation.evaluate import Tuning, evaluate
from training.evaluation.model_card import write_card
from training.export.bundle import as_records
from training.registry import tags
from training.search.ensemble import Member
from training.search.models import STARTING_POINTS
from training.use_case import Binary, load

ROWS = 600
TUNING = Tuning([Member(dict(point), weight) for point, weight in zip(STARTING_POINTS, (0.6, 0.3, 1), strict=True)],
                -0.3, 3, 0, 0.8)  # fmt: skip


def replaced(use_case, groups=None, **fields):
    """The use case with some fields altered, ``name={changes}``, and with other groups where they are given."""
    return msgspec.structs.replace(
        use_case,
        groups=use_case.groups if groups is None else groups,
        fields=tuple(msgspec.structs.replace(field, **fields.get(field.name, {})) for field in use_case.fields),
    )


@pytest.fixture(scope="module")
def frame():
    return make_rows(REPAIRS, ROWS, 4)


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(REPAIRS, ROWS, 4)


def read(use_case, table, tmp_path, kind="parquet"):
    path = tmp_path / f"table.{kind}"
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path, index=False)
    return read_table(use_case, str(path))


@pytest.mark.parametrize("kind", ["int64", "float64", "Int8", "str"])
def test_label_of_ones_and_zeros_is_read_from_numbers_as_from_text(kind, frame, dataset, tmp_path):
    altered = frame.assign(broken=frame["broken"].astype(int).astype(kind))
    made = read(REPAIRS, altered, tmp_path)
    np.testing.assert_array_equal(made.y, dataset.y)
    assert made.digest == dataset.digest
    assert 0 < made.y.sum() < ROWS


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_label_of_true_and_false_is_read_whatever_its_case(kind, frame, dataset, tmp_path):
    use_case = msgspec.structs.replace(REPAIRS, label=Binary("broken", positive="true", negative="False"))
    made = read(use_case, frame.assign(broken=frame["broken"] == "1"), tmp_path, kind)
    np.testing.assert_array_equal(made.y, dataset.y)
    assert set(made.frame["broken"]) == {"true", "False"}


def test_label_that_is_neither_value_is_refused_with_what_is_allowed(frame, tmp_path):
    with pytest.raises(DataError, match="broken: 600 rows: not one of 1, 0"):
        read(REPAIRS, frame.assign(broken=frame["broken"] == "1"), tmp_path)


def test_names_that_are_no_identifiers_are_read_and_keep_their_names(dataset, tmp_path):
    assert list(dataset.frame.columns) == [*(field.name for field in REPAIRS.fields), "broken"]
    write_snapshot(dataset, tmp_path / "snapshot.parquet")
    again = read_snapshot(REPAIRS, tmp_path / "snapshot.parquet")
    assert again.digest == dataset.digest
    np.testing.assert_array_equal(again.groups, dataset.groups)


def test_curated_table_is_read_by_its_sql_names(frame, dataset, tmp_path):
    curated = frame.rename(columns=REPAIRS.columns).assign(source="original", effective_date=None)
    assert not {"order", "naïve", "Monthly Income (EUR)"} & set(curated.columns)
    curated.loc[0, REPAIRS.columns["maker"]] = "D"  # the service has taken an unknown category
    made = read(REPAIRS, curated, tmp_path)
    assert set(made.frame["serial"]) == set(dataset.frame["serial"])
    assert (made.x == -1).sum() == 1
    assert not made.recent.any()


def test_field_may_have_the_name_of_a_technical_column(frame, tmp_path):
    named = {"maker": "source", "note": "effective_date"}
    fields = tuple(msgspec.structs.replace(field, name=named.get(field.name, field.name)) for field in REPAIRS.fields)
    use_case = msgspec.structs.replace(REPAIRS, fields=fields)
    table = frame.rename(columns=named)
    plain = read(use_case, table, tmp_path)
    assert plain.recent is None
    curated = table.rename(columns=use_case.columns).assign(source="feed", effective_date="2026-06-01")
    made = read(use_case, curated, tmp_path)
    assert made.recent.all()
    assert sorted(made.frame["source"]) == sorted(plain.frame["source"])


def test_rows_are_held_out_by_their_text_key_alone(dataset):
    groups = dataset.groups
    assert groups.dtype == object
    chosen = holdout_rows(REPAIRS, groups)
    assert 0.14 < chosen.mean() < 0.26
    np.testing.assert_array_equal(holdout_rows(REPAIRS, groups[::-1]), chosen[::-1])
    assert (holdout_rows(msgspec.structs.replace(REPAIRS, name="other"), groups) != chosen).any()


def test_key_that_occurs_twice_is_refused_unless_dates_tell_the_rows_apart(frame, tmp_path):
    twice = pd.concat([frame, frame.head(3)], ignore_index=True)
    with pytest.raises(DataError, match="3 rows: serial occurs more than once"):
        read(REPAIRS, twice, tmp_path)
    dated = twice.assign(effective_date=[None] * ROWS + ["2026-06-01"] * 3)
    assert read(REPAIRS, dated, tmp_path).recent.sum() == 3


def test_rows_without_a_key_are_held_out_by_their_values_and_equal_rows_stay_together(frame, tmp_path):
    made = read(WITHOUT_KEY, pd.concat([frame, frame.head(50)], ignore_index=True), tmp_path)
    groups = made.groups
    assert len(set(groups)) == ROWS
    np.testing.assert_array_equal(groups[:50], groups[ROWS:])
    chosen = holdout_rows(WITHOUT_KEY, groups)
    assert 0.14 < chosen.mean() < 0.26
    # What is to be predicted must not decide where a row goes.
    other = made.frame.assign(broken=made.frame["broken"].map({"1": "0", "0": "1"}))
    np.testing.assert_array_equal(msgspec.structs.replace(made, frame=other).groups, groups)


def test_compared_and_carried_columns_may_be_absent(frame, tmp_path):
    made = read(REPAIRS, frame.drop(columns=["region", "note"]), tmp_path)
    assert made.frame["region"].isna().all()
    with pytest.raises(DataError, match="serial: the column is missing"):
        read(replaced(REPAIRS, serial={"required": False}), frame.drop(columns="serial"), tmp_path)
    with pytest.raises(DataError, match="region: the column is missing"):
        read(replaced(REPAIRS, region={"required": True}), frame.drop(columns="region"), tmp_path)
    with pytest.raises(DataError, match="maker: the column is missing"):
        read(replaced(REPAIRS, maker={"required": False}), frame.drop(columns="maker"), tmp_path)


def test_feature_whose_values_all_fall_into_the_hold_out_is_refused_at_the_door(frame, tmp_path):
    held_out = holdout_rows(REPAIRS, frame["serial"].to_numpy(object))
    gaps = frame.assign(heat=frame["heat"].where(held_out))
    with pytest.raises(DataError, match="heat: all its values fall into the hold-out"):
        read(REPAIRS, gaps, tmp_path)


def config(**changes):
    given = {"use_case": "repairs", "data": "", "model_name": "repairs", "experiment": "repairs"}
    given |= {"trials": 3, "seed": 5}
    return JobConfig(**(given | changes))


@pytest.fixture(scope="module")
def judged(frame, tmp_path_factory):
    """The evaluation of a table whose compared column ``region`` is absent, and where its files are."""
    folder = tmp_path_factory.mktemp("judged")
    dataset = read(REPAIRS, frame.drop(columns="region"), folder)
    return evaluate(config(), dataset, TUNING, None, folder), folder, dataset


def test_model_of_another_table_is_exported_exactly_and_answers_its_own_records(judged):
    evaluation, folder, dataset = judged
    assert evaluation["parity"]["probability"] <= 1e-5
    bundle = Bundle.load(folder / "bundle")
    records = as_records(dataset, range(5))
    assert {record["serial"] for record in records} == {REPAIRS.fields[0].example}
    assert isinstance(records[0]["heat"], float)
    assert isinstance(records[0]["order"], int)
    answer = bundle.score(records)
    np.testing.assert_array_equal(answer.classifier__predictions, bundle.probabilities(dataset.x[:5]))


def test_records_hold_no_null_where_a_field_takes_none(dataset):
    strict = replaced(REPAIRS, maker={"nullable": False}, region={"nullable": False})
    gaps = dataset.frame.head(1).assign(maker=None, region=None, heat=np.nan)
    record = as_records(msgspec.structs.replace(dataset, use_case=strict, frame=gaps), [0])[0]
    assert record["maker"] == "A"
    assert record["heat"] is None
    assert "region" not in record


def test_drift_is_not_tested_for_the_key_for_free_text_and_for_what_has_no_value(judged):
    contract = read_contract(judged[1] / "bundle")
    assert {field.name for field in contract.fields if not field.drift} == {"serial", "region", "note"}
    assert [field.name for field in contract.fields] == [field.name for field in REPAIRS.fields]
    assert (contract.title, contract.name) == ("Machine Repairs", "repairs")


def test_plain_model_and_the_model_without_protected_fields_are_measured_beside_it(judged):
    evaluation = judged[0]
    assert evaluation["plain"]["metrics"].keys() == evaluation["challenger"].keys()
    without = evaluation["without_protected"]
    assert without["reasons"] == {"order": REPAIRS.groups[1].fed_because}
    assert without["fairness"]["groups"].keys() == {"region", "order"}
    difference = without["comparison"]["roc_auc"]["difference"]["value"]
    measured = evaluation["challenger"]["roc_auc"]["value"] - without["metrics"]["roc_auc"]["value"]
    assert difference == pytest.approx(measured, abs=2e-6)
    assert evaluation["data"]["holdout_positives"] > 0


def test_challenger_that_is_worse_than_a_plain_model_is_refused(dataset, tmp_path):
    strict = msgspec.structs.replace(REPAIRS.thresholds, minimum_roc_auc=0, minimum_roc_auc_low=0,
                                     not_worse_than_plain=True)  # fmt: skip
    use_case = msgspec.structs.replace(REPAIRS, thresholds=strict)
    stump = {"family": "boosting", "learning_rate": 0.1, "max_iter": 1, "max_depth": 1, "min_samples_leaf": 20,
             "l2_regularization": 5.0}  # fmt: skip
    tuning = msgspec.structs.replace(TUNING, members=[Member(stump, 1.0)], bias=0.0)
    found = evaluate(config(), msgspec.structs.replace(dataset, use_case=use_case), tuning, None, tmp_path)
    assert found["verdict"] == "failed"
    assert found["reasons"][0].startswith("ROC AUC is lower than the plain logistic regression's by 0.")


def test_use_case_without_groups_has_no_fairness_part(dataset, tmp_path):
    use_case = replaced(REPAIRS, groups=(), region={"role": "carried"})
    dataset = msgspec.structs.replace(dataset, use_case=use_case)
    tuning = msgspec.structs.replace(TUNING, members=TUNING.members[:1])
    evaluation = evaluate(config(), dataset, tuning, None, tmp_path)
    assert not {"fairness", "without_protected"} & evaluation.keys()
    assert "maximum_fairness_gap" not in {check["name"] for check in evaluation["thresholds"]}
    assert "## Fairness" not in write_card(config(), use_case, tuning.members, evaluation)


def test_model_card_speaks_of_the_use_case(judged):
    card = write_card(config(), REPAIRS, TUNING.members, judged[0])
    assert re.search(r"[\w,.]\n\w", card) is None, "MLflow would break the line there"
    assert REPAIRS.purpose in card
    assert REPAIRS.misuse in card
    assert "| Metric | Challenger | Plain logistic regression |" in card, "there was no champion to show"
    card = " ".join(card.split())
    for words in (
        *("600 machines", "by the field serial", "Accepted in requests and not used: serial, note."),
        *("Breakdowns among the 10% with the highest risk", "order, because the line wears machines out"),
    ):
        assert words in card
    assert "leaver" not in card.lower()
    assert "employee" not in card.lower()


@pytest.mark.parametrize("kind", ["category", "number"])
def test_table_with_one_kind_of_feature_alone_is_exported_exactly(kind, dataset, tmp_path):
    use_case = msgspec.structs.replace(
        WITHOUT_KEY,
        groups=(),
        fields=tuple(
            field if (field.kind == "category") == (kind == "category") and field.categories != ("north", "south")
            else msgspec.structs.replace(field, role="carried")
            for field in REPAIRS.fields
            if field.categories or field.kind != "category"
        ),
    )  # fmt: skip
    dataset = msgspec.structs.replace(dataset, use_case=use_case)
    assert {field.kind == "category" for field in use_case.features} == {kind == "category"}
    assert evaluate(config(), dataset, TUNING, None, tmp_path)["parity"]["probability"] <= 1e-5


def test_what_people_are_compared_by_reaches_neither_classifier_nor_outlier_model(tmp_path):
    attrition = load("attrition")
    bundle = Bundle.load(make_bundle(tmp_path / "bundle", 3))
    records = as_records(make_dataset(attrition, 300, 9), range(300))
    others = [{**record, "Gender": "Female", "MaritalStatus": None, "Age": 99} for record in records]
    assert {field.name for field in attrition.fields if field.role == "compared"} == {"Gender", "MaritalStatus", "Age"}
    first, second = bundle.score(records), bundle.score(others)
    assert first.classifier__predictions == second.classifier__predictions
    assert first.outliers__score == second.outliers__score
    assert first.drift__p_value["Age"] != second.drift__p_value["Age"]


DEFINITION = """
import msgspec
from tests.support.repairs import REPAIRS

USE_CASE = msgspec.structs.replace(REPAIRS, name="repairs_elsewhere", title="Repairs elsewhere")
"""


def test_job_trains_and_registers_a_use_case_from_a_folder_outside(frame, store, tmp_path, monkeypatch):
    (tmp_path / "repairs_elsewhere").mkdir()
    (tmp_path / "repairs_elsewhere" / "__init__.py").write_text(DEFINITION)
    monkeypatch.setattr(use_cases, "__path__", [*use_cases.__path__, str(tmp_path)])
    frame.assign(broken=frame["broken"].astype(int)).to_parquet(tmp_path / "machines.parquet")
    text = msgspec.json.encode(
        config(use_case="repairs_elsewhere", data=str(tmp_path / "machines.parquet"), trials=3, parallel_trials=1)
    ).decode()
    try:
        job.main(["all", "--run-key", "elsewhere", "--config", text])
    finally:
        sys.modules.pop("use_cases.repairs_elsewhere", None)
        load.cache_clear()
    version = store.get_model_version_by_alias("repairs", tags.CHALLENGER)
    parent = store.get_run(version.run_id)
    assert parent.inputs.dataset_inputs[0].dataset.name == "machines"
    assert parent.data.metrics["data.positives"] == (frame["broken"] == "1").sum()
    records = frame.drop(columns=["broken", "serial"]).head(3)
    answers = mlflow.pyfunc.load_model(f"models:/repairs@{tags.CHALLENGER}").predict(records.assign(serial="S-1"))
    assert answers["classifier__predictions"].between(0, 1).all()
    assert json.loads(json.dumps(answers["outliers__score"].tolist()))
