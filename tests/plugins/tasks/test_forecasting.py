"""From an approved version of forecasts to the table and back, through the REST API of MLflow's own server."""

import json
import uuid
from datetime import UTC, date, datetime
from types import SimpleNamespace

import jsonschema
import msgspec
import pytest
from airflow.models.connection import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from lifecycle import released_model, settings
from lifecycle.approval_keys import KeyRing
from lifecycle.evidence import document as evidence
from lifecycle.evidence import signature
from lifecycle.hooks import airflow_api, registry, targets
from lifecycle.hooks.registry import RegistryError
from lifecycle.image_reference import ImageReference
from lifecycle.operators.forecast_run import ForecastRunOperator
from lifecycle.operators.job_run import JobRunOperator
from lifecycle.tasks import forecasting, publish, release, rollback
from tests.support.airflow import make_settings, run_task
from training.forecasting.cycle import Compared, Cycle, cycle_file
from training.forecasting.judge import WeekVerdict, verdict_file
from training.inference_log import layout
from training.registry import tags
from training.registry.content import content_digest

USE_CASE = "demand"
RING = KeyRing.new()
FIGURE = {"value": 0.2, "low": 0.18, "high": 0.22}
PAIRED = {"wape": {"difference": {"value": -0.1, "low": -0.12, "high": -0.08}, "better": 1.0}}
EVALUATION = {
    "titles": {"wape": "WAPE"},
    "plain": {"title": "Seasonal naive", "metrics": {"wape": {"value": 0.3, "low": 0.28, "high": 0.32}},
              "comparison": PAIRED},
    "challenger": {"wape": FIGURE},
    "champion": None,
    "comparison": None,
    "thresholds": [{"title": "WAPE", "kind": "maximum", "value": 0.2, "limit": 0.6, "passed": True, "note": ""}],
    "facts": ["Forecast value added: WAPE is 33.3% less than that of seasonal naive"],
    "tables": [{"title": "Backtest by horizon", "heads": ["Weeks ahead", "WAPE"], "rows": [["1", "19.1%"]],
                "gate": "WAPE by weeks ahead: 1 19.1%."}],
    "period": "week",
    "data": {"digest": "d1", "rows": 900, "source": "sales.csv", "description": "sales.csv: 900 rows of 8 series"},
    "verdict": "passed",
    "reasons": [],
}  # fmt: skip
NOTHING = {"version": "", "image": ""}
CODE = {"path": "/code/c0de", "code_hash": "c0de", "git_revision": "0ff1ce"}


@pytest.fixture
def model(mlflow_connection, connections, monkeypatch, tmp_path):
    """A registered model of its own; ``add()`` registers a version, whose bundle is one file that names it."""
    name = f"model_{uuid.uuid4().hex[:8]}"
    own = {"model_name": name, "experiment": name, "tables": str(tmp_path / "tables"), "data": "/in/sales.csv",
           "plan": "/in/plan.csv"}  # fmt: skip
    changed = make_settings(approval_keys=RING.public, use_cases={USE_CASE: own})
    monkeypatch.setattr(settings, "load", lambda: changed)
    notes = []
    monkeypatch.setattr(airflow_api, "set_run_note", lambda *given: notes.append(given[-1]))
    connections[signature.CONNECTION_ID] = Connection(
        conn_id=signature.CONNECTION_ID, conn_type="generic", password=RING.private
    )
    client = registry.client()
    client.create_registered_model(name)
    experiment = client.create_experiment(name)
    bundles = tmp_path / "bundles"

    def download(_, version, destination):
        destination.mkdir(parents=True)
        written = bundles / version
        (destination / "forecaster.json").write_text(written.read_text() if written.exists() else version)
        return destination

    monkeypatch.setattr(registry, "download_bundle", download)

    def add():
        run = client.create_run(experiment, tags={tags.RUN_KEY: uuid.uuid4().hex})
        client.log_text(run.info.run_id, json.dumps(EVALUATION), tags.EVALUATION_FILE)
        client.set_terminated(run.info.run_id)
        version = client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
        client.set_model_version_tag(name, version.version, tags.VERDICT, "passed")
        client.set_registered_model_alias(name, tags.CHALLENGER, version.version)
        return registry.resolve(USE_CASE, version.version)

    return SimpleNamespace(name=name, add=add, client=client, notes=notes, tables=tmp_path / "tables", bundles=bundles)


def context(run_id="run-1", **params):
    run = SimpleNamespace(
        dag_id="demand_release",
        run_id=run_id,
        run_type="manual",
        run_after=datetime(2026, 11, 23, 6, tzinfo=UTC),
        logical_date=None,
        triggering_user_name="omar",
    )
    instance = SimpleNamespace(
        dag_id=run.dag_id,
        run_id=run_id,
        task_id="any",
        get_task_breadcrumbs=lambda **_: [],
        xcom_push=lambda key, value: None,
        xcom_pull=lambda task_ids, key="return_value": None,
        get_dr_count=lambda **_: 0,
        get_task_states=lambda **_: {},
    )
    return {"dag_run": run, "ti": instance, "params": params, "triggering_asset_events": {}, "outlet_events": Events()}


class Events(dict):
    def __missing__(self, asset):
        self[asset] = SimpleNamespace(extra=None)
        return self[asset]


def run(task, now, *arguments):
    return run_task(task, now, USE_CASE, *arguments)


def asked(monkeypatch, version, run_id="run-1", code=CODE, option="Approve"):
    """Gather the evidence of a release, and answer its gate."""
    now = context(run_id)
    candidate = run(release.resolve_candidate, context(run_id, version=int(version.version)))
    shown = run(release.gather_evidence_of_model, now, candidate, code)
    record = {
        "body": shown["body"],
        "params": {"comment": {"schema": {"digest": shown["digest"]}}},
        "chosen_options": [option],
        "params_input": {"comment": "fine"},
        "responded_by_user": {"id": "12", "name": "rita"},
        "responded_at": datetime.now(UTC).isoformat(),
    }
    monkeypatch.setattr(airflow_api, "question", lambda *gate: (record, []))
    return now, candidate, shown


def released(monkeypatch, version, run_id="run-1", code=CODE):
    """A release from its gate to its end; returns the approved content."""
    now, candidate, _ = asked(monkeypatch, version, run_id, code)
    content = run(release.record_approval, now, candidate)
    run(release.bring_in, now, candidate, content)
    return content


def alias(name):
    found = registry.by_alias(USE_CASE, name)
    return found.version if found else None


def test_evidence_of_a_model_has_bundle_and_code_and_no_part_of_a_server(model, monkeypatch, request):
    version = model.add()
    now, _, shown = asked(monkeypatch, version)
    stored = registry.training_artifact(version.run_id, evidence.path(release.release_key(now)))
    assert not {"staging_report"} & set(stored)
    assert set(stored["image"]) == {"reference", "bundle", "code", "signed_by"}
    assert ImageReference.parse(stored["image"]["reference"]).kind == "model"
    schema = json.loads((request.config.rootpath / "docs" / "evidence.schema.json").read_text())
    jsonschema.validate(stored, schema)
    for part in (
        "It is better than the seasonal naive: WAPE is 0.100 lower", "33.3% less", "WAPE by weeks ahead: 1 19.1%.",
        "- Model `", "and the code `c0de`", "no week has been judged yet",
        "sales.csv: 900 rows of 8 series",
    ):  # fmt: skip
        assert part in shown["body"].replace("\\", ""), part
    assert "staging" not in shown["body"]
    assert "Backtest by horizon" not in shown["body"], "Approve would be out of sight below a table"


def test_other_code_or_another_bundle_is_another_digest(model):
    version = model.add()
    before = released_model.content(USE_CASE, version, "c0de").reference
    assert released_model.content(USE_CASE, version, "c0df").reference != before
    model.bundles.mkdir()
    (model.bundles / version.version).write_text("changed")
    assert released_model.content(USE_CASE, version, "c0de").reference != before


def test_first_approved_version_is_the_champion_at_once(model, monkeypatch):
    version = model.add()
    content = released(monkeypatch, version)
    assert alias(tags.CHAMPION) == version.version
    assert alias(tags.BESIDE) is None
    assert alias(tags.CHALLENGER) is None
    assert targets.current(USE_CASE, "production") == {"image": content, "version": version.version}
    assert targets.current(USE_CASE, "staging") is None
    found = released_model.approved(USE_CASE, registry.resolve(USE_CASE, version.version))
    assert (found.version, found.code_hash) == (version.version, "c0de")


def test_next_version_runs_beside_and_the_champion_stays(model, monkeypatch):
    first, second = model.add(), model.add()
    released(monkeypatch, first)
    for _ in range(2):  # a repeated try leaves the same registry
        released(monkeypatch, second, "run-2")
    assert (alias(tags.CHAMPION), alias(tags.BESIDE)) == (first.version, second.version)
    assert f"Version {second.version} runs beside version {first.version}" in model.notes[-1]


def test_rejected_version_changes_nothing(model, monkeypatch):
    version = model.add()
    now, candidate, _ = asked(monkeypatch, version, option="Reject")
    run(release.record_rejection, now, candidate)
    assert alias(tags.CHAMPION) is None
    with pytest.raises(AirflowFailException, match="rejected this release"):
        run(release.record_approval, now, candidate)
    with pytest.raises(RegistryError, match="was never approved"):
        released_model.approved(USE_CASE, registry.resolve(USE_CASE, version.version))


def test_alias_that_somebody_moved_makes_no_forecasts(model, monkeypatch):
    released(monkeypatch, model.add())
    other = model.add()
    model.client.set_registered_model_alias(model.name, tags.CHAMPION, other.version)
    with pytest.raises(RegistryError, match="was never approved"):
        run(forecasting.pin_versions, context())


# --- the weekly run ---


def pinned(run_id="week-1", **params):
    return run(forecasting.pin_versions, context(run_id, **params))


def test_run_forecasts_with_the_champion_and_what_runs_beside_it(model, monkeypatch):
    first, second = model.add(), model.add()
    released(monkeypatch, first)
    alone = pinned()
    assert alone["beside"] is None
    assert (alone["day"], alone["source"], alone["plan"]) == ("2026-11-23", "/in/sales.csv", "/in/plan.csv")
    with pytest.raises(AirflowSkipException):
        forecasting.order_of.function(alone, "beside")
    released(monkeypatch, second, "run-2", {**CODE, "code_hash": "c0df"})
    assert pinned() == alone, "a repeated run forecasts with what it had decided"
    both = pinned("week-2", input="/in/other.csv", plan=settings.NO_PLAN, date="2026-11-30")
    assert (both["day"], both["source"], both["plan"]) == ("2026-11-30", "/in/other.csv", "")
    assert (both["champion"]["version"], both["beside"]["version"]) == (first.version, second.version)
    assert (both["champion"]["code_hash"], both["beside"]["code_hash"]) == ("c0de", "c0df")
    order = forecasting.order_of.function(both, "beside")
    assert (order["role"], order["version"], order["until"]) == ("beside", second.version, "")


def test_run_without_a_champion_says_what_to_do(model):
    with pytest.raises(AirflowFailException, match="release one with demand_release first"):
        pinned()


def wrote(model, pin, role, **changes):
    version = pin[role]
    cycle = Cycle(
        day=pin["day"], role=role, source=pin["source"], plan=pin["plan"], version=version["version"],
        bundle_digest=version["bundle_digest"], rows=104, series=8, origin="2026-11-16", first_week="2026-11-23",
        last_week="2027-02-15", total=1234.0, unit="pieces", plan_assumed=3, **changes,
    )  # fmt: skip
    layout.write_json(cycle_file(model.tables, date.fromisoformat(pin["day"]), role), msgspec.to_builtins(cycle))


def test_forecasts_are_announced_with_what_was_assumed(model, monkeypatch):
    released(monkeypatch, model.add())
    pin, now = pinned(), context("week-1")
    wrote(model, pin, "champion")
    extra = run(forecasting.announce_forecasts, now, pin)
    assert extra == {"day": "2026-11-23", "version": "1", "rows": 104, "plan_assumed": 3}
    assert [event.extra for event in now["outlet_events"].values()] == [extra]
    assert "3 of 104 rows (3%) are not in the plan" in model.notes[-1]
    with pytest.raises(AirflowSkipException, match="no version runs beside"):
        run(forecasting.take_over, now, pin)


@pytest.mark.parametrize("taken", [True, False])
def test_version_beside_becomes_the_champion_where_its_forecasts_took_over(model, monkeypatch, taken):
    first, second = model.add(), model.add()
    released(monkeypatch, first)
    content = released(monkeypatch, second, "run-2")
    pin, now, sent = pinned(), context("week-1"), []
    monkeypatch.setattr(forecasting, "send_once", lambda tables, alerts: sent.extend(alerts))
    faults = () if taken else ("the total changes by +80.0%, and at most 30% is allowed",)
    compared = Compared(version=first.version, rows=104, change=0.02 if taken else 0.8, inside=0.9, faults=faults)
    wrote(model, pin, "champion")
    wrote(model, pin, "beside", compared=compared, took_over=taken)
    assert run(forecasting.announce_forecasts, now, pin)["version"] == (second if taken else first).version
    assert [alert.kind for alert in sent] == ([] if taken else ["beside"])
    if taken:
        for _ in range(2):  # repeated, it changes nothing more
            run(forecasting.take_over, now, pin)
        assert (alias(tags.CHAMPION), alias(tags.PREVIOUS_CHAMPION)) == (second.version, first.version)
        assert alias(tags.BESIDE) is None
        assert str(registry.resolve(USE_CASE, second.version).image) == content
    else:
        with pytest.raises(AirflowSkipException, match="the version in production stays"):
            run(forecasting.take_over, now, pin)
        assert (alias(tags.CHAMPION), alias(tags.BESIDE)) == (first.version, second.version)


def took_over(model, monkeypatch):
    """A run whose job let ``second`` take over the table from ``first``: pin, first, second."""
    first, second = model.add(), model.add()
    released(monkeypatch, first)
    released(monkeypatch, second, "run-2")
    pin = pinned()
    compared = Compared(version=first.version, rows=104, change=0.02, inside=0.9, faults=())
    wrote(model, pin, "champion")
    wrote(model, pin, "beside", compared=compared, took_over=True)
    return pin, first, second


def test_taking_over_leaves_the_version_beside_that_was_released_meanwhile(model, monkeypatch):
    """It was approved and is the challenger no more: without its alias nobody would have heard of it again."""
    pin, first, second = took_over(model, monkeypatch)
    third = model.add()
    released(monkeypatch, third, "run-3")
    run(forecasting.take_over, context("week-1"), pin)
    assert (alias(tags.CHAMPION), alias(tags.PREVIOUS_CHAMPION)) == (second.version, first.version)
    assert alias(tags.BESIDE) == third.version


def test_version_that_was_compared_with_a_former_champion_takes_over_nothing(model, monkeypatch):
    """A rollback came in between, or somebody clears the task of an old run."""
    pin, *_ = took_over(model, monkeypatch)
    other = model.add()
    model.client.set_registered_model_alias(model.name, tags.CHAMPION, other.version)
    with pytest.raises(AirflowFailException, match=f"version {other.version} is in production by now"):
        run(forecasting.take_over, context("week-1"), pin)
    assert alias(tags.CHAMPION) == other.version


@pytest.mark.parametrize("taken", [True, False], ids=["cleared days later", "while the run was at work"])
def test_version_whose_trial_a_rollback_has_ended_takes_over_nothing(model, monkeypatch, taken):
    """The champion is the one it was compared with, so the alias alone told nothing of the rollback."""
    pin, first, _ = took_over(model, monkeypatch)
    if taken:
        run(forecasting.take_over, context("week-1"), pin)
    back = context("back", version=int(first.version))
    run(release.bring_back, back, run(rollback.resolve_earlier_release, back))
    assert (alias(tags.CHAMPION), alias(tags.BESIDE)) == (first.version, None)
    with pytest.raises(AirflowFailException, match=rf"version {first.version} was put into production once more"):
        run(forecasting.take_over, context("week-1"), pin)
    assert (alias(tags.CHAMPION), alias(tags.BESIDE)) == (first.version, None)


def test_version_takes_over_with_no_code_but_the_one_that_was_approved(model, monkeypatch):
    pin, first, _ = took_over(model, monkeypatch)
    pin["beside"]["code_hash"] = "of somebody else"
    with pytest.raises(AirflowFailException, match=r"takes over nothing: .*was never approved"):
        run(forecasting.take_over, context("week-1"), pin)
    assert alias(tags.CHAMPION) == first.version


def test_version_takes_over_in_a_run_that_was_under_way_before_the_update(model, monkeypatch):
    pin, _, second = took_over(model, monkeypatch)
    del pin["champion"]["released_at"]
    run(forecasting.take_over, context("week-1"), pin)
    assert alias(tags.CHAMPION) == second.version


def ended(monkeypatch, version, run_id):
    """A release up to its last task: what that is given."""
    now, candidate, _ = asked(monkeypatch, version, run_id)
    return now, candidate, run(release.record_approval, now, candidate)


def test_cleared_end_of_an_old_release_leaves_the_trial_of_a_later_version(model, monkeypatch):
    """Its champion is the one that it had found, or itself: the later version ran beside no more."""
    first, second, third = model.add(), model.add(), model.add()
    of_first = ended(monkeypatch, first, "run-1")
    run(release.bring_in, *of_first)
    of_second = ended(monkeypatch, second, "run-2")
    run(release.bring_in, *of_second)
    back = context("back", version=int(first.version))
    earlier = run(rollback.resolve_earlier_release, back)
    released(monkeypatch, third, "run-3")
    cleared = ((release.bring_in, of_first), (release.bring_in, of_second), (release.bring_back, (back, earlier)))
    for task, given in cleared:
        with pytest.raises(AirflowFailException, match=rf"version {third.version} runs beside the one in production"):
            run(task, *given)
    assert (alias(tags.CHAMPION), alias(tags.BESIDE)) == (first.version, third.version)


def test_cleared_end_of_an_old_release_begins_no_trial_that_a_rollback_has_ended(model, monkeypatch):
    first, second = model.add(), model.add()
    released(monkeypatch, first)
    of_second = ended(monkeypatch, second, "run-2")
    run(release.bring_in, *of_second)
    back = context("back", version=int(first.version))
    run(release.bring_back, back, run(rollback.resolve_earlier_release, back))
    with pytest.raises(AirflowFailException, match=rf"version {first.version} was put into production once more"):
        run(release.bring_in, *of_second)
    assert (alias(tags.CHAMPION), alias(tags.BESIDE)) == (first.version, None)


@pytest.mark.parametrize("content", [None, "scoring:latest", f"models:/m@sha256:{'ab' * 32}"], ids=str)
def test_result_that_somebody_wrote_by_hand_moves_no_alias(model, monkeypatch, content):
    """Who may mark ``record_approval`` as a success and write its XCom brought any version into production."""
    released(monkeypatch, model.add())
    version = model.add()
    now, candidate, _ = asked(monkeypatch, version, "run-2")
    for task, given in (
        (release.bring_in, (candidate, content)),
        (release.bring_back, ({**candidate, "image": content},)),
    ):
        with pytest.raises(AirflowFailException, match=r"production refuses .*No alias is moved"):
            run(task, now, *given)
    assert (alias(tags.CHAMPION), alias(tags.BESIDE)) == ("1", None)


@pytest.mark.parametrize("task", [release.bring_in, release.bring_back], ids=["release", "rollback"])
def test_cleared_end_of_an_old_run_moves_no_alias(model, monkeypatch, task):
    first, second = model.add(), model.add()
    content = released(monkeypatch, first)
    now, given, _ = asked(monkeypatch, first, "old")
    model.client.set_registered_model_alias(model.name, tags.CHAMPION, second.version)
    old = {**given, "production": NOTHING, "image": content}
    with pytest.raises(AirflowFailException, match=f"version {second.version} is in production by now.*was none when"):
        run(task, now, old, *([content] if task is release.bring_in else []))
    assert alias(tags.CHAMPION) == second.version


@pytest.mark.parametrize("change", ["version", "bundle_digest", "code_hash", "path", "nothing"])
def test_what_somebody_wrote_in_place_of_the_pinned_version_writes_no_forecasts(model, monkeypatch, change):
    """Who may write an XCom and clear ``score`` brought any version, and any code, into the table."""
    released(monkeypatch, model.add())
    other = model.add()
    root = settings.load().training.code_root
    order = forecasting.order_of.function(pinned(), "champion")
    code = {"path": f"{root}/c0de", "code_hash": "c0de"}
    order |= {"version": {"version": other.version}, "bundle_digest": {"bundle_digest": "sha256:00"}}.get(change, {})
    code |= {"code_hash": {"path": f"{root}/ee", "code_hash": "ee"}, "path": {"path": "/evil/c0de"}}.get(change, {})
    begun = []
    monkeypatch.setattr(JobRunOperator, "execute", lambda self, context: begun.append(self.config(context)))
    operator = ForecastRunOperator(task_id="score", use_case=USE_CASE, code=code, pinned={**order, "tables": "/evil"})
    if change == "nothing":
        operator.execute(context())
        assert [config["tables"] for config in begun] == [str(model.tables)], "no pin says where the tables lie"
    else:
        with pytest.raises(AirflowFailException, match="nothing is written by version"):
            operator.execute(context())
        assert begun == []


def test_forecasts_of_another_run_are_not_announced(model, monkeypatch):
    released(monkeypatch, model.add())
    pin = pinned()
    with pytest.raises(AirflowFailException, match="are not those of version 1"):
        run(forecasting.announce_forecasts, context(), pin)


# --- code ---


class Workspace:
    """The calls of ``WorkspaceHook``, on a dictionary."""

    def __init__(self):
        self.files = {}

    def exists(self, path):
        return path in self.files

    def make_folder(self, path):
        pass

    def write_file(self, path, content):
        self.files[path] = content


def test_approved_code_is_found_published_again_or_missed(model):
    workspace, root = Workspace(), settings.load().training.code_root
    workspace.files[f"{root}/0123/{publish.MARKER}"] = b""
    assert forecasting.find_code(workspace, USE_CASE, "0123", "1")["path"] == f"{root}/0123"
    now = publish.content_hash(publish.code_files(forecasting.definitions.load(USE_CASE)))
    assert forecasting.find_code(workspace, USE_CASE, now, "1")["path"] == f"{root}/{now}"
    assert f"{root}/{now}/training/forecast_job.py" in workspace.files
    with pytest.raises(AirflowFailException, match="put the folder back, or release the version again"):
        forecasting.find_code(workspace, USE_CASE, "4567", "1")


# --- going back, and judging ---


def test_going_back_names_the_newest_partition_and_its_weeks_and_ends_a_trial(model, monkeypatch):
    first, second, third = model.add(), model.add(), model.add()
    released(monkeypatch, first)
    released(monkeypatch, second, "run-2")
    registry.promote(
        USE_CASE, second, ImageReference.parse(registry.resolve(USE_CASE, second.version).tags[tags.IMAGE])
    )
    registry.end_beside(USE_CASE)
    released(monkeypatch, third, "run-3")
    now = context("back", reason="orders doubled")
    earlier = run(rollback.resolve_earlier_release, now)
    assert earlier["version"] == first.version
    with pytest.raises(AirflowSkipException, match="nothing has been forecast yet"):
        run(forecasting.pin_former, now, earlier)
    wrote(model, pinned(), "champion")
    pin = run(forecasting.pin_former, now, earlier)
    assert (pin["day"], pin["until"], pin["champion"]["version"]) == ("2026-11-23", "2026-11-16", first.version)
    assert forecasting.order_of.function(pin, "champion")["until"] == "2026-11-16"
    run(release.bring_back, now, earlier)
    assert (alias(tags.CHAMPION), alias(tags.BESIDE)) == (first.version, None)


def test_week_without_a_reason_skips_and_one_with_a_reason_names_a_run_and_its_data(model, monkeypatch):
    released(monkeypatch, model.add())
    sent = []
    monkeypatch.setattr(forecasting, "send_once", lambda tables, alerts: sent.extend(alerts))
    order = run(forecasting.order_of_judging, context("judged"))
    assert (order["version"], order["day"], order["by_hand"]) == ("1", "2026-11-23", False)
    with pytest.raises(AirflowFailException, match="do tables and job_tables"):
        run(forecasting.decide_weeks, context("judged"), order)
    quiet = WeekVerdict(day="2026-11-23", status="quiet", champion="1", note="all well", data="/in/sales.csv")
    file = verdict_file(model.tables, date(2026, 11, 23))
    layout.write_json(file, msgspec.to_builtins(quiet))
    with pytest.raises(AirflowSkipException, match="all well"):
        run(forecasting.decide_weeks, context("judged"), order)
    poor = msgspec.structs.replace(quiet, confirmed=("WAPE",), retrain=True, note="poor", reasons=("WAPE of 3 weeks",))
    layout.write_json(file, msgspec.to_builtins(poor))
    decided = run(forecasting.decide_weeks, context("judged"), order)
    assert decided == {
        "run_id": "retrain__2026-11-23", "data": "/in/sales.csv", "plan": "/in/plan.csv", "why": "WAPE of 3 weeks"
    }  # fmt: skip
    assert [alert.kind for alert in sent] == ["forecasts"]


def test_bundle_of_an_approval_is_the_digest_of_its_files(model, monkeypatch, tmp_path):
    version = model.add()
    released(monkeypatch, version)
    folder = registry.download_bundle(model.name, version.version, tmp_path / "again")
    found = released_model.approved(USE_CASE, registry.resolve(USE_CASE, version.version))
    assert found.bundle_digest == content_digest(folder)
