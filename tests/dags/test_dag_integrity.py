"""Every DAG imports, is documented and bounded, and nothing reaches production but through the gate."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

from lifecycle import defaults, settings
from lifecycle.defaults import KINDS, notify_failure
from lifecycle.operators.training_run import TrainingRunOperator
from lifecycle.task_links import FOUND_BY
from lifecycle.tasks.release import tell_put_back
from tests.support import names
from tests.support.airflow import make_settings
from tests.support.scoring_steps import STEPS
from training.use_case import load

ROOT = Path(__file__).resolve().parents[2]
DAGS = names.files(load("attrition")) | names.files(load("demand"))
"""Of the use cases of this repository, with the file that makes each; ``test_use_cases.py`` has those of others."""


@pytest.fixture(scope="module")
def dags():
    bag = DagBag(str(ROOT / "dags"), collect_dags=True)
    assert bag.import_errors == {}
    return bag.dags


def test_the_list_of_dags_is_exact(dags):
    assert set(dags) == set(DAGS)


@pytest.mark.parametrize("dag_id", sorted(DAGS))
def test_dag_file_is_named_after_its_dag_and_is_short(dag_id):
    lines = (ROOT / "dags" / f"{DAGS[dag_id]}.py").read_text().splitlines()
    assert 40 < len(lines) <= 190


@pytest.mark.parametrize("dag_id", sorted(DAGS))
def test_dag_has_runbook_owner_tags_timeout_and_bounds(dags, dag_id):
    dag = dags[dag_id]
    for part in ("**Params.**", "**Safe to repeat.**", "**If it fails.**", "**Does not guard against**"):
        assert part in dag.doc_md
    assert dag.owner == "mlops"
    use_case = dag_id.partition("_")[0]
    kind = set(dag.tags) - {use_case}
    assert use_case in dag.tags
    assert len(kind) == 1
    assert kind < set(KINDS)
    assert dag.catchup is False
    assert dag.dagrun_timeout <= timedelta(days=7)
    assert dag.max_active_runs <= 2


@pytest.mark.parametrize("dag_id", sorted(DAGS))
def test_dag_has_a_name_and_a_sentence_for_people(dags, dag_id):
    """The list showed bare ids, and said nothing of what a DAG is for."""
    title, dag = load(dag_id.partition("_")[0]).title, dags[dag_id]
    assert re.fullmatch(rf"{re.escape(title)}: [a-z].+", dag.dag_display_name)
    assert re.fullmatch(r"[A-Z][^`*$]+\.", dag.description)


def test_release_is_drawn_in_four_stages_whose_tasks_keep_their_ids(dags):
    groups = dags["attrition_release"].task_group.children
    stages = {name: set(groups[name].children) for name in ("build", "staging", "approval", "production")}
    assert set(groups) == set(stages)
    assert {"resolve_candidate", "build_image"} == stages["build"]
    assert {"await_approval", "record_approval", "restore_staging"} < stages["approval"]
    assert {"deploy_canary", "restore_production", "promote"} < stages["production"]


def test_assets_say_what_they_are(dags):
    for dag in dags.values():
        for outlet in (outlet for task in dag.tasks for outlet in task.outlets):
            assert outlet.group == dag.dag_id.partition("_")[0], outlet.name
            assert outlet.extra["description"], outlet.name


@pytest.mark.parametrize("dag_id", sorted(DAGS))
def test_every_task_has_the_callback_retries_and_a_timeout(dags, dag_id):
    for task in dags[dag_id].tasks:
        assert notify_failure in task.on_failure_callback, task.task_id
        assert task.retries >= 1, task.task_id
        assert task.execution_timeout, task.task_id


@pytest.mark.parametrize("dag_id", sorted(DAGS))
def test_every_param_has_a_type_and_a_description(dags, dag_id):
    params = dags[dag_id].params
    for name in params:
        schema = params.get_param(name).schema
        assert schema.get("type"), name
        assert params.get_param(name).description, name


def test_job_is_followed_by_the_task_that_finds_its_run_in_mlflow(dags):
    for job, finder in FOUND_BY.items():
        followed = [dag.get_task(job) for dag in dags.values() if dag.has_task(job) and dag.has_task(finder)]
        assert followed, job
        assert all(finder in task.downstream_task_ids for task in followed), finder


def _production_tasks(dag):
    return [task for task in dag.tasks if getattr(task, "target", None) == "production"]


def test_nothing_reaches_production_but_through_the_gate(dags):
    release = dags["attrition_release"]
    production = _production_tasks(release)
    assert {task.task_id for task in production} == {
        "deploy_canary",
        "watch_canary",
        "deploy_production",
        "verify_production",
        "restore_production",
    }
    for task in [*production, release.get_task("promote")]:
        upstream = task.get_flat_relative_ids(upstream=True)
        assert {"await_approval", "record_approval", "verify_staging"} <= upstream, task.task_id


def test_no_version_of_forecasts_reaches_production_but_through_the_gate(dags):
    release = dags["demand_release"]
    upstream = release.get_task("promote").get_flat_relative_ids(upstream=True)
    assert {"await_approval", "record_approval", "gather_evidence"} <= upstream
    downstream = {task: release.get_task(task) for task in release.get_task("record_approval").downstream_task_ids}
    assert {task.trigger_rule.value for task in downstream.values()} == {"all_success"}
    assert _production_tasks(release) == []


def test_forecasts_are_made_by_approved_code_alone(dags):
    for dag_id, task_id, found in (
        ("demand_score", "score", "find_code"),
        ("demand_score", "score_beside", "find_code_beside"),
        ("demand_rollback", "restore", "approved_code"),
    ):
        task = dags[dag_id].get_task(task_id)
        assert task.code.operator.task_id == found, f"{dag_id}.{task_id}"


def test_forecasts_are_announced_once_they_are_there_also_where_no_version_runs_beside(dags):
    """A task is skipped as soon as one before it is, whatever the others still do."""
    announce = dags["demand_score"].get_task("announce_forecasts")
    assert {"score", "score_beside"} <= announce.upstream_task_ids
    assert announce.trigger_rule.value == "none_failed"


def test_forecasts_are_written_on_mondays_after_the_week_was_judged(dags):
    assert dags["demand_score"].timetable.expression == "0 6 * * 1"
    assert dags["demand_retrain_weekly"].timetable.expression == "0 4 * * 1"


def test_people_are_told_where_production_was_put_back(dags):
    assert tell_put_back in dags["attrition_release"].get_task("restore_production").on_success_callback


def test_no_trigger_rule_lets_a_rejected_release_go_on(dags):
    release = dags["attrition_release"]
    downstream = release.get_task("record_approval").get_flat_relative_ids(upstream=False)
    rules = {task_id: release.get_task(task_id).trigger_rule.value for task_id in downstream}
    # restore_production runs after a failure only, and skips itself when nothing was approved.
    assert rules.pop("restore_production") == "one_failed"
    assert set(rules.values()) == {"all_success"}


def test_production_steps_carry_the_approved_image(dags):
    for dag_id in ("attrition_release", "attrition_rollback"):
        for task in _production_tasks(dags[dag_id]):
            if task.step != "restore":
                assert task.approved_image, f"{dag_id}.{task.task_id}"


def test_steps_that_change_production_say_what_they_replace(dags):
    for dag_id in ("attrition_release", "attrition_rollback"):
        changing = [task for task in _production_tasks(dags[dag_id]) if task.step in ("deploy", "canary", "restore")]
        assert changing, dag_id
        for task in changing:
            assert "xcom_pull" in task.replaces, f"{dag_id}.{task.task_id}"


def test_every_pod_that_a_dag_makes_has_its_checked_in_render(dags):
    made = {
        f"{dag.dag_id}.{task.task_id}": {"step": task.step, "target": task.target}
        for dag in dags.values()
        for task in dag.tasks
        if hasattr(task, "build_pod_request_obj")
    }
    rendered = {name: {key: given[key] for key in ("step", "target")} for name, given in STEPS.items()}
    assert made == {name: given for name, given in rendered.items() if not name.endswith(".to_nothing")}


def test_release_and_rollback_never_run_twice_at_once(dags):
    for use_case in ("attrition", "demand"):
        assert dags[f"{use_case}_release"].max_active_runs == 1
        assert dags[f"{use_case}_rollback"].max_active_runs == 1


def test_what_an_emergency_needs_is_never_paused_at_first(dags):
    for dag_id in ("attrition_rollback", "attrition_stop", "attrition_resume", "demand_rollback"):
        assert dags[dag_id].is_paused_upon_creation is False


def test_nightly_retraining_is_due_at_two_and_never_runs_twice_at_once(dags):
    assert dags["attrition_retrain_nightly"].timetable.expression == "0 2 * * *"
    assert dags["attrition_retrain_nightly"].max_active_runs == 1


SCHEDULED = ("attrition_retrain_nightly", "demand_retrain_weekly", "demand_score")


def test_schedules_are_in_utc_whatever_airflows_configuration_says(dags):
    """A plain text under ``default_timezone`` or ``create_cron_data_intervals`` closed the night of another day."""
    assert {dag_id for dag_id, dag in dags.items() if hasattr(dag.timetable, "expression")} == {*SCHEDULED}
    for dag_id in SCHEDULED:
        timetable = dags[dag_id].timetable
        assert (type(timetable).__name__, str(timetable.timezone)) == ("CronTriggerTimetable", "UTC"), dag_id
    assert defaults.START_DATE.utcoffset() == timedelta(0)


def test_release_outlasts_its_gate_however_long_that_stands(monkeypatch):
    """At the end of ``dagrun_timeout`` Airflow skips what is left of a run, ``restore_production`` among it."""
    for hours in (1.0, 24.0 * 7, 24.0 * 30):
        patient = make_settings(release=settings.Release(response_hours=hours))
        monkeypatch.setattr(settings, "load", lambda patient=patient: patient)
        assert defaults.release_timeout() >= timedelta(hours=hours, days=1)


def test_runs_outlast_the_jobs_that_they_start(dags, monkeypatch):
    """Four steps of two hours, which Azure's settings allow a training, were longer than its run's six."""
    jobs = {
        dag: set(task.operator_class.steps)
        for dag in dags.values()
        for task in dag.tasks
        if hasattr(task.operator_class, "steps") and defaults.RELEASE not in dag.tags
    }
    assert len(jobs) > 3
    assert {dag: dag.dagrun_timeout for dag in jobs} == {
        dag: defaults.job_timeout(steps) for dag, steps in jobs.items()
    }
    patient = make_settings(training=settings.Training(task_timeout=7200))
    monkeypatch.setattr(settings, "load", lambda: patient)
    assert defaults.job_timeout(TrainingRunOperator.steps) > len(TrainingRunOperator.steps) * timedelta(hours=2)


def test_names_of_files_are_not_read_as_templates(dags):
    """``tests/embedded/test_arrivals_in_airflow.py`` has such a file in a real Airflow."""
    start = dags["attrition_arrivals"].get_task("start_runs")
    assert (tuple(start.template_fields), start.operator_class.template_fields) == ((), ())


def test_dag_files_name_no_address_and_branch_on_no_environment():
    for path in (ROOT / "dags").glob("*.py"):
        text = path.read_text()
        assert "://" not in text, path.name
        assert "if local" not in text, path.name
        assert "environment ==" not in text, path.name
