"""The job end to end on a real MLflow store: hand-over, idempotency, gate, registered model."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import mlflow
import msgspec
import numpy as np
import pandas as pd
import pytest

from serving.scoring.bundle import Bundle
from tests.support import unpickled
from tests.support.evaluated import evaluated_once
from tests.support.markdown import blocks
from tests.support.signing import make_key
from training import classification
from training import training_job as job
from training.config import ConfigError
from training.data.data_error import DataError
from training.evaluation import evaluate as judging
from training.registry import tags
from training.registry.register import pinned_requirements
from training.registry.tracking import TRIAL, Tracker, TrackingError
from training.registry.versions import fetch_bundle
from training.signing import bundle as bundle_signature
from training.signing.keys import SignatureError
from training.use_case import Thresholds, UseCaseError, load

ROOT = Path(__file__).resolve().parents[2]
MODEL = "employee_attrition"
TRIALS = 3


def config(data: Path, **changes):
    given = {
        "use_case": "attrition",
        "data": str(data),
        "model_name": MODEL,
        "experiment": "/Shared/attrition",
        "trials": TRIALS,
        "seed": 5,
        "parallel_trials": 1,
        "code_hash": "c0de",
        "git_revision": "0ff1ce",
    }
    return json.dumps(given | changes)


def run(task, key, text):
    job.main([task, "--run-key", key, "--config", text])


def versions(store):
    return sorted(store.search_model_versions(f"name = '{MODEL}'"), key=lambda version: int(version.version))


def runs_of(store, key):
    experiment = store.get_experiment_by_name("/Shared/attrition")
    return store.search_runs([experiment.experiment_id], f"tags.`{tags.RUN_KEY}` = '{key}'")


def trials_of(store, parent):
    found = store.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return sorted(found, key=lambda nested: int(nested.data.tags[TRIAL]))


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return make_key(tmp_path_factory.mktemp("keys"), "training")


@pytest.fixture(scope="module")
def first(store, synthetic_file, held, tmp_path_factory):
    """One whole job, interrupted the hard way: every task is run twice, the search stops half-way.

    The last task is killed once more between its signature and its version.
    """
    text = config(synthetic_file, signing_key=held.place)
    run("prepare", "first", text)
    run("prepare", "first", text)
    recorded = Tracker.record_trial

    def killed(self, parent, result):
        if result.number == 2:
            self._new_trial_run(parent, result)  # made, but not filled
            raise KeyboardInterrupt
        recorded(self, parent, result)

    Tracker.record_trial = killed
    try:
        with pytest.raises(KeyboardInterrupt):
            run("tune", "first", text)
    finally:
        Tracker.record_trial = recorded
    for task in ("tune", "tune"):
        run(task, "first", text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(judging, "evaluate", evaluated_once(judging, tmp_path_factory.mktemp("evaluated")))
        for task in ("evaluate", "evaluate"):
            run(task, "first", text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mlflow, "register_model", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run("register", "first", text)
    for _ in range(2):
        run("register", "first", text)
    return runs_of(store, "first")


def test_job_that_is_repeated_and_interrupted_makes_one_run_one_version_and_each_trial_once(first, store):
    assert len(first) == 1
    assert [int(nested.data.tags[TRIAL]) for nested in trials_of(store, first[0])] == list(range(TRIALS))
    assert all(nested.info.status == "FINISHED" for nested in trials_of(store, first[0]))
    made = [version for version in versions(store) if version.run_id == first[0].info.run_id]
    assert len(made) == 1
    assert first[0].info.status == "FINISHED"
    assert len(mlflow.search_logged_models([first[0].info.experiment_id], output_format="list")) == 1


def test_trial_is_logged_leanly_with_parameters_and_scores_and_without_a_model(first, store):
    nested = trials_of(store, first[0])[0]
    assert nested.data.params["family"] == "logistic"
    assert 0.5 < nested.data.metrics["roc_auc_cv"] < 1
    assert store.list_artifacts(nested.info.run_id) == []


def test_parent_run_holds_figures_plots_data_set_and_environment(first, store):
    parent = first[0]
    names = {file.path for file in store.list_artifacts(parent.info.run_id)}
    assert {"bundle", "data", "environment.txt", "evaluation.json", "model_card.md", "plots", "tuning.json"} <= names
    plots = {Path(file.path).stem for file in store.list_artifacts(parent.info.run_id, "plots")}
    assert plots == {"roc", "precision_recall", "calibration", "permutation_importance", "drift_references"}
    for metric in ("roc_auc", "pr_auc", "log_loss", "brier", "calibration_error", "recall_top_10", "recall_top_20"):
        low, high = (parent.data.metrics[f"interval/{metric}_{end}"] for end in ("low", "high"))
        assert low <= parent.data.metrics[metric] <= high
    assert parent.data.metrics["fairness_gap_true_positive_rate"] >= 0
    assert parent.data.metrics["parity"] <= 1e-5
    dataset = parent.inputs.dataset_inputs[0].dataset
    assert dataset.digest == parent.data.tags[tags.DATA_DIGEST]
    assert parent.data.tags["mlflow.source.git.commit"] == "0ff1ce"


def test_version_carries_alias_and_tags(first, store):
    version = store.get_model_version_by_alias(MODEL, tags.CHALLENGER)
    assert version.run_id == first[0].info.run_id
    assert version.tags[tags.RUN_KEY] == "first"
    assert version.tags[tags.TRAINING_RUN_ID] == first[0].info.run_id
    assert version.tags[tags.VERDICT] == "passed"
    assert version.tags[tags.ABOUT] == "evaluation passed" == first[0].data.tags[tags.ABOUT]
    # The order in which MLflow lists them, of a version and of a run.
    assert next(iter(version.tags)) == tags.ABOUT
    assert next(name for name in first[0].data.tags if not name.startswith("mlflow.")) == tags.ABOUT
    assert version.tags[tags.DATA_DIGEST] == first[0].data.tags[tags.DATA_DIGEST]
    assert version.tags[tags.CODE_HASH] == "c0de"
    assert version.tags[tags.GIT_REVISION] == "0ff1ce"


def test_bundle_of_the_version_is_signed_as_that_of_its_run(first, store, held, tmp_path):
    version = store.get_model_version_by_alias(MODEL, tags.CHALLENGER)
    folder = fetch_bundle(MODEL, version.version, tmp_path / "bundle")
    signature = mlflow.artifacts.load_text(f"runs:/{version.run_id}/{tags.BUNDLE_SIGNATURE_FILE}")
    name = bundle_signature.subject(MODEL, version.run_id)
    assert bundle_signature.check(folder, name, signature, [held.listed]) == held.listed
    (folder / "contract.json").write_bytes((folder / "contract.json").read_bytes() + b" ")
    with pytest.raises(SignatureError, match=r"changed: contract\.json"):
        bundle_signature.check(folder, name, signature, [held.listed])


def test_notebook_of_the_guide_scores_a_table(first, synthetic_file, tmp_path, monkeypatch, capsys):
    (tmp_path / "people.csv").write_bytes(Path(synthetic_file).read_bytes())
    ((_, code),) = blocks((ROOT / "docs" / "batch.md").read_text(), "python")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    # Nothing was released in this store.
    exec(code.replace("@champion", f"@{tags.CHALLENGER}"), {})  # noqa: S102  (our own page)
    assert "probability" in capsys.readouterr().out


def test_registered_model_answers_as_the_bundle_does(first, store, synthetic_frame, tmp_path):
    version = store.get_model_version_by_alias(MODEL, tags.CHALLENGER)
    bundle = Bundle.load(fetch_bundle(MODEL, version.version, tmp_path / "bundle"))
    table = synthetic_frame.drop(columns="Attrition").head(40)
    table.loc[table.index[0], ["DailyRate", "OverTime"]] = None
    answers = mlflow.pyfunc.load_model(f"models:/{MODEL}@{tags.CHALLENGER}").predict(table)
    records = table.astype(object).where(table.notna(), None).to_dict("records")
    expected = bundle.score(records)
    np.testing.assert_array_equal(answers["classifier__predictions"], expected.classifier__predictions)
    np.testing.assert_array_equal(answers["outliers__is_outlier"], expected.outliers__is_outlier)
    explained = mlflow.pyfunc.load_model(f"models:/{MODEL}@{tags.CHALLENGER}").predict(table, params={"explain": True})
    for p, base, reasons, other in zip(
        explained["classifier__predictions"], explained["base"], explained["reasons"], explained["other"], strict=True
    ):
        total = base + sum(reason["effect"] for reason in json.loads(reasons)) + other
        assert 1 / (1 + np.exp(-total)) == pytest.approx(p, abs=1e-6)


def test_registered_model_ships_scoring_code_pins_signature_and_example(first, store, tmp_path):
    version = store.get_model_version_by_alias(MODEL, tags.CHALLENGER)
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL}/{version.version}", dst_path=str(tmp_path)))
    assert (folder / "code" / "serving" / "scoring" / "bundle.py").is_file()
    assert unpickled.in_files(folder) == []
    assert "model_code_path" in mlflow.models.Model.load(str(folder)).flavors["python_function"]
    assert {path.name for path in (folder / "code" / "serving").iterdir()} == {"__init__.py", "scoring"}
    pins = (folder / "requirements.txt").read_text().split()
    assert {pin.split("==")[0] for pin in pins} == {"mlflow", "msgspec", "numpy", "onnxruntime", "pandas"}
    model = mlflow.models.Model.load(str(folder))
    assert model.signature.inputs.input_names()[0] == "BusinessTravel"
    assert model.signature.outputs.input_names()[0] == "classifier__predictions"
    (example,) = model.load_input_example(str(folder)).to_dict("records")
    assert example == {field.name: field.example for field in load("attrition").fields}


def test_card_is_what_mlflow_shows_of_run_version_and_model_and_the_run_has_a_name(first, store):
    version = store.get_model_version_by_alias(MODEL, tags.CHALLENGER)
    run = store.get_run(version.run_id)
    card = mlflow.artifacts.load_text(f"runs:/{version.run_id}/{tags.MODEL_CARD_FILE}")
    shown = (run.data.tags["mlflow.note.content"], version.description, store.get_registered_model(MODEL).description)
    assert set(shown) == {card}
    assert re.fullmatch(r"attrition on [\w.-]+, \d{4}-\d\d-\d\d \d\d:\d\d UTC", run.info.run_name)


def test_same_seed_gives_the_same_trials_and_figures_twice(first, store, synthetic_file):
    text = config(synthetic_file)
    for task in ("prepare", "tune", "evaluate"):
        run(task, "again", text)
    again = runs_of(store, "again")[0]
    assert [nested.data.params for nested in trials_of(store, again)] == [
        nested.data.params for nested in trials_of(store, first[0])
    ]
    timing = {"latency_ms", "classifier_us"}
    expected = {name: value for name, value in first[0].data.metrics.items() if name not in timing}
    assert {name: value for name, value in again.data.metrics.items() if name not in timing} == expected


def test_second_job_is_compared_with_the_champion_on_the_same_holdout(first, store, synthetic_file):
    champion = store.get_model_version_by_alias(MODEL, tags.CHALLENGER)
    store.set_registered_model_alias(MODEL, tags.CHAMPION, champion.version)
    run("all", "second", config(synthetic_file, seed=6, force=True, trials=1))  # whichever of the two is better
    second = runs_of(store, "second")[0]
    evaluation = mlflow.artifacts.load_dict(f"runs:/{second.info.run_id}/{tags.EVALUATION_FILE}")
    assert evaluation["comparison"]["champion_version"] == champion.version
    before = mlflow.artifacts.load_dict(f"runs:/{first[0].info.run_id}/{tags.EVALUATION_FILE}")
    published = json.loads((ROOT / "docs" / "evidence.schema.json").read_text())["$defs"]["Evidence"]["properties"]
    for made in (before, evaluation):  # a release's evidence carries it whole
        jsonschema.validate(made, published["evaluation"])
    assert evaluation["champion"]["roc_auc"]["value"] == before["challenger"]["roc_auc"]["value"]
    difference = evaluation["comparison"]["metrics"]["roc_auc"]["difference"]
    assert difference["value"] == pytest.approx(
        evaluation["challenger"]["roc_auc"]["value"] - evaluation["champion"]["roc_auc"]["value"], abs=2e-6
    )
    assert store.get_model_version_by_alias(MODEL, tags.CHALLENGER).run_id == second.info.run_id
    assert store.get_model_version_by_alias(MODEL, tags.CHAMPION).version == champion.version


def test_failing_verdict_registers_nothing_unless_forced_and_then_says_so(store, synthetic_file, monkeypatch):
    before = len(versions(store))
    strict = msgspec.structs.replace(load("attrition"), thresholds=Thresholds(minimum_roc_auc=0.999))
    monkeypatch.setattr(classification, "load", lambda name: strict)
    run("all", "failing", config(synthetic_file, trials=1))
    parent = runs_of(store, "failing")[0]
    assert parent.data.tags[tags.VERDICT] == "failed"
    assert parent.info.status == "FINISHED"
    evaluation = mlflow.artifacts.load_dict(f"runs:/{parent.info.run_id}/{tags.EVALUATION_FILE}")
    assert "below the limit of 0.999" in evaluation["reasons"][0]
    assert len(versions(store)) == before
    run("register", "failing", config(synthetic_file, force=True))
    assert [version.tags[tags.VERDICT] for version in versions(store)[before:]] == ["forced"]
    assert runs_of(store, "failing")[0].info.status == "FINISHED"


def test_repeated_register_leaves_an_alias_alone_that_a_release_has_moved(first, store, synthetic_file):
    version = next(v for v in versions(store) if v.run_id == first[0].info.run_id)
    store.set_registered_model_alias(MODEL, tags.CHALLENGER, version.version)
    store.delete_registered_model_alias(MODEL, tags.CHALLENGER)
    run("register", "first", config(synthetic_file))
    assert tags.CHALLENGER not in store.get_registered_model(MODEL).aliases
    assert len([v for v in versions(store) if v.run_id == first[0].info.run_id]) == 1


def test_task_that_fails_marks_the_run_failed_and_a_retry_goes_on(store, synthetic_file, monkeypatch):
    text = config(synthetic_file, trials=1)
    run("prepare", "broken", text)
    monkeypatch.setenv("LIFECYCLE_ENGINE", "dask")
    with pytest.raises(ValueError, match="LIFECYCLE_ENGINE is 'dask'"):
        run("tune", "broken", text)
    assert runs_of(store, "broken")[0].info.status == "FAILED"
    monkeypatch.delenv("LIFECYCLE_ENGINE")
    run("tune", "broken", text)
    assert runs_of(store, "broken")[0].info.status == "RUNNING"


def test_bad_data_leaves_no_run_behind(store, synthetic_frame, tmp_path):
    synthetic_frame.drop(columns="OverTime").to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(DataError, match="OverTime: the column is missing"):
        run("prepare", "bad", config(tmp_path / "bad.csv"))
    experiment = store.get_experiment_by_name("/Shared/attrition")
    assert experiment is None or runs_of(store, "bad") == []


@pytest.mark.parametrize("task", ["tune", "evaluate", "register"])
def test_task_without_the_one_before_says_what_to_run(task, store, synthetic_file):
    with pytest.raises(TrackingError, match="run the task prepare first, with the same key"):
        run(task, "never-prepared", config(synthetic_file))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trails": 3}, "unknown field `trails`"),
        ({"trials": "many"}, "Expected `int`, got `str`"),
        ({"trials": 0}, "trials and parallel_trials are at least 1"),
        ({"model_name": "catalog.model"}, "give a plain name, or catalog.schema.name"),
        ({"floors": {}}, "unknown field `floors`"),
    ],
)
def test_wrong_config_is_refused_by_field(changes, message, synthetic_file):
    with pytest.raises(ConfigError, match=message):
        run("prepare", "key", config(synthetic_file, **changes))


def test_unknown_use_case_is_refused_and_those_that_there_are_are_named(synthetic_file):
    with pytest.raises(UseCaseError, match=r"there is no use case 'churn': use one of .*attrition"):
        run("prepare", "key", config(synthetic_file, use_case="churn"))


def test_published_code_runs_as_a_file_from_anywhere(synthetic_frame, tmp_path):
    """As Databricks has it: a folder of ``training`` and ``serving/scoring``, and a script path."""
    code = tmp_path / "code" / "0123"
    shutil.copytree(ROOT / "training", code / "training", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "serving" / "scoring", code / "serving" / "scoring")
    (code / "serving" / "__init__.py").touch()
    shutil.copytree(ROOT / "use_cases", code / "use_cases", ignore=shutil.ignore_patterns("__pycache__"))
    bad = tmp_path / "bad.csv"
    synthetic_frame.assign(Age="old").to_csv(bad, index=False)
    ended = subprocess.run(
        [
            sys.executable,
            str(code / "training" / "training_job.py"),
            "prepare",
            "--run-key",
            "k",
            "--config",
            config(bad),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/store.db"},
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith(
        "has 1 fault; nothing is trained or registered:\n"
        "  - Age: 600 rows: not a number (lines 2, 3, 4, 5, 6, ...): 'old'"
    )


def test_pins_come_from_the_compiled_requirements():
    pins = pinned_requirements((ROOT / "training" / "requirements.txt").read_text())
    assert f"mlflow=={mlflow.__version__}" in pins
    assert f"pandas=={pd.__version__}" in pins
    with pytest.raises(ValueError, match=r"no pin for mlflow.*run make lock"):
        pinned_requirements("numpy==1.0\n")
