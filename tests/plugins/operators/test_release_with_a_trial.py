"""A whole release with ``qa = "aci"``, whose worker dies at each request of ``try_image``, goes on and doubles nothing.

Each task of the real DAG is run by its own operator, with its own templates. Real are the registry, the evidence and
Azure's client; stand-ins are the build, the two clusters, and the person at the gate.
"""

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.connection import Connection
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.execution_time.context import OutletEventAccessors, set_current_context

from lifecycle import settings
from lifecycle.approval_keys import KeyRing
from lifecycle.evidence import document as evidence
from lifecycle.evidence import signature
from lifecycle.hooks import airflow_api, registry, stop_switch, targets
from lifecycle.image_reference import ImageReference
from lifecycle.operators.build_image import BuildImageOperator
from lifecycle.task_ids import AWAIT_APPROVAL
from lifecycle.tasks import release as tasks
from tests.support import container_instances
from tests.support.airflow import USE_CASE, make_settings
from tests.support.container_instances import PLACE, Killed
from tests.support.image_names import image
from training.registry import tags

ROOT = Path(__file__).resolve().parents[3]
REPOSITORY = "registry.example/attrition-scoring"
IMAGE = image("ab", REPOSITORY)
RING = KeyRing.new()
FIGURE = {"value": 0.85, "low": 0.8, "high": 0.9}
EVALUATION = {
    "titles": {"roc_auc": "ROC AUC"},
    "plain": {"metrics": {"roc_auc": FIGURE}, "comparison": {}},
    "challenger": {"roc_auc": FIGURE},
    "champion": None,
    "comparison": {},
    "thresholds": [],
    "data": {"digest": "d1", "rows": 1470},
    "verdict": "passed",
    "reasons": [],
}
TO_PRODUCTION = [
    "deploy-staging", "verify-staging", "canary-production", "watch-production", "deploy-production",
    "verify-production",
]  # fmt: skip


class Outside:
    """What a release changes beside Azure and the registry."""

    def __init__(self):
        self.built = 0
        self.steps = []
        self.running = {}

    def build(self, operator, context):
        self.built += 1
        return {"image": IMAGE, "sbom_digest": "sha256:bb", "base": "", "reused": False}

    def do(self, operator, context):
        """A step in a pod of a cluster."""
        self.steps.append(f"{operator.step}-{operator.target}")
        if operator.step == "deploy":
            self.running[operator.target] = {"image": str(operator._deployed_image), "version": operator.version}
        return operator._judged(container_instances.report(), context)


class Release:
    """One run: its tasks in order, and their XComs."""

    def __init__(self, dag, monkeypatch):
        self.dag, self.monkeypatch = dag, monkeypatch
        self.xcoms = {}
        self.done = []
        self.run = SimpleNamespace(
            dag_id=dag.dag_id,
            run_id="run-1",
            run_type="manual",
            run_after=datetime(2026, 11, 21, tzinfo=UTC),
            triggering_user_name="omar",
        )

    def go_on(self):
        """Run every task of an approved release that has not succeeded yet."""
        aside = {"record_rejection", "record_staging_restored", "restore_staging", "restore_production"}
        for task in self.dag.topological_sort():
            if task.task_id == AWAIT_APPROVAL:
                self._approve()
            elif task.task_id not in {*aside, *self.done}:
                self._execute(task.prepare_for_execution())
                self.done.append(task.task_id)

    def _execute(self, task):
        context = self._context(task)
        with set_current_context(context):
            task.render_template_fields(context)
            found = task.execute(context)
        if isinstance(found, dict) and task.multiple_outputs:
            for key, value in found.items():
                context["ti"].xcom_push(key, value)
        context["ti"].xcom_push("return_value", found)

    def _context(self, task):
        def push(key, value):
            self.xcoms[task.task_id, key] = value

        instance = SimpleNamespace(
            dag_id=self.dag.dag_id,
            run_id=self.run.run_id,
            task_id=task.task_id,
            map_index=-1,
            xcom_push=push,
            xcom_pull=lambda task_ids, key="return_value", default=None, **_: self.xcoms.get((task_ids, key), default),
            get_task_breadcrumbs=lambda **_: [],
            get_dr_count=lambda **_: 0,
        )
        return {
            "dag_run": self.run,
            "ti": instance,
            "params": {},
            "triggering_asset_events": {},
            "outlet_events": OutletEventAccessors(),
        }

    def _approve(self):
        record = {
            "body": self.xcoms["gather_evidence", "body"],
            "params": {"comment": {"schema": {"digest": self.xcoms["gather_evidence", "digest"]}}},
            "chosen_options": ["Approve"],
            "params_input": {"comment": "fine"},
            "responded_by_user": {"id": "12", "name": "rita"},
            "responded_at": datetime.now(UTC).isoformat(),
        }
        self.monkeypatch.setattr(airflow_api, "question", lambda *gate: (record, []))


@pytest.fixture
def outside(mlflow_connection, connections, monkeypatch):
    name = f"model_{uuid.uuid4().hex[:8]}"
    of = {"model_name": name, "experiment": name, "other_repositories": [REPOSITORY]}
    found = make_settings(of, release=settings.Release(qa="aci", qa_seconds=20), approval_keys=RING.public)
    monkeypatch.setattr(settings, "load", lambda: found)
    connections |= {
        "scoring_qa": Connection(conn_id="scoring_qa", conn_type="azure_container_instance", extra=json.dumps(PLACE)),
        "registry": Connection(conn_id="registry", conn_type="azure", host="registry.example"),
        signature.CONNECTION_ID: Connection(conn_type="generic", password=RING.private),
        **{f"scoring_{one}": Connection(conn_type="kubernetes") for one in ("staging", "production")},
    }
    made = Outside()
    monkeypatch.setattr(BuildImageOperator, "execute", lambda operator, context: made.build(operator, context))
    monkeypatch.setattr(KubernetesPodOperator, "execute", lambda operator, context: made.do(operator, context))
    monkeypatch.setattr(targets, "current", lambda use_case, target: made.running.get(target))
    monkeypatch.setattr(stop_switch, "stopped", lambda use_case, target: None)
    monkeypatch.setattr(tasks.airflow_api, "set_run_note", lambda *arguments: None)
    client = registry.client()
    client.create_registered_model(name)
    run = client.create_run(client.create_experiment(name), tags={tags.RUN_KEY: "key"})
    client.log_text(run.info.run_id, json.dumps(EVALUATION), tags.EVALUATION_FILE)
    client.set_terminated(run.info.run_id)
    client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_model_version_tag(name, "1", tags.VERDICT, "passed")
    client.set_registered_model_alias(name, tags.CHALLENGER, "1")
    return made


@pytest.fixture
def azure(monkeypatch):
    with container_instances.running() as double:
        container_instances.lead_to(double, monkeypatch)
        yield double


@pytest.fixture
def started(outside, azure, monkeypatch):
    bag = DagBag(str(ROOT / "dags" / "release.py"), collect_dags=True)
    assert bag.import_errors == {}
    return Release(bag.dags["attrition_release"], monkeypatch)


def in_production_once(outside):
    return (outside.built, outside.steps, registry.by_alias(USE_CASE, tags.CHAMPION).version) == (1, TO_PRODUCTION, "1")


@pytest.mark.parametrize("request_number", range(1, 7))
def test_release_that_is_killed_while_it_tries_the_image_goes_on_and_doubles_nothing(
    started, outside, azure, request_number
):
    """list, get, create, get, output, removal: there is no seventh, as the last test sees."""
    with container_instances.killed_at(azure, request_number):
        started.go_on()
    assert set(started.done) - {"preview_impact"} == {"resolve_candidate", "build_image"}, "the preview waits for none"
    assert (outside.built, outside.steps) == (1, [])
    assert len(azure.groups) == len(azure.made()) == (1 if request_number > 3 else 0)
    started.go_on()
    assert in_production_once(outside)
    assert (len(azure.made()), azure.groups) == (1, {})


def test_report_that_the_worker_takes_with_it_is_made_again(started, outside, azure, monkeypatch):
    with monkeypatch.context() as dying:

        def die(operator, found, context):
            raise Killed

        dying.setattr("lifecycle.operators.release_step.ScoringStepOperator._judged", die)
        with pytest.raises(Killed):
            started.go_on()
    assert (outside.steps, azure.groups) == ([], {})
    started.go_on()
    assert in_production_once(outside)
    assert (len(azure.made()), azure.groups) == (2, {})


def test_gate_and_evidence_say_in_a_line_what_the_trial_found(started, azure):
    started.go_on()
    assert len(azure.calls) == 6
    shown = started.xcoms["gather_evidence", "body"]
    line = (
        "- Tried in a container group of qa (westeurope): passed every check (2) in 7.2 s; golden answers: "
        "5 answers within 1e-06 of the registered model's."
    )
    assert line in shown.splitlines()
    version = registry.by_alias(USE_CASE, tags.CHAMPION)
    stored = evidence.read_approved(USE_CASE, version, ImageReference.parse(IMAGE))
    assert stored.trial_report == {**container_instances.report(), "where": "in a container group of qa (westeurope)"}
