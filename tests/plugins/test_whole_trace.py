"""A release's whole trace, read back from a receiver: Airflow's run and tasks, the job, the pods, the server's answers.

Airflow's spans are made by Airflow's own functions, in the order in which a run makes them, around our own steps. The
server and its verification client are real. What the receiver has got is then asked for with the two queries of the
runbooks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow._shared.observability import traces
from airflow.api_fastapi.execution_api.routes import task_instances
from airflow.models import dagrun
from airflow.models.connection import Connection
from airflow.sdk.execution_time import task_runner
from airflow.utils.state import DagRunState, TaskInstanceState
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from lifecycle.image_reference import ImageReference
from lifecycle.operators import pods
from lifecycle.operators.group_step import CONNECTION_TYPE, GroupStep
from lifecycle.operators.job_run import JobRunOperator
from lifecycle.operators.local_steps import LocalSteps
from lifecycle.operators.steps import Work
from lifecycle.operators.training_run import TrainingRunOperator
from lifecycle.trace import trace_id, trace_parent
from monitoring import render
from tests.support.airflow import USE_CASE
from tests.support.bundles import make_bundle
from tests.support.collector import Collector, Span, collecting
from tests.support.container_instances import PLACE
from tests.support.image_names import image
from tests.support.images import build_image
from tests.support.log_analytics import Workspace
from tests.support.machine import eventually
from tests.support.scoring_steps import Instance
from tests.support.serving_processes import KEY, Server
from training import trace as job_trace
from training.registry import tags
from training.use_case import load

pytestmark = pytest.mark.stack

DAG_ID = "attrition_release"
CODE = {"path": "/Shared/code", "code_hash": "0123", "git_revision": "abc"}
IMAGE = ImageReference.parse(image("ab", "registry.example/attrition-scoring"))


@pytest.fixture
def collector(monkeypatch) -> Iterator[Collector]:
    """A receiver that the server exports to, and that Airflow's functions make their spans for."""
    with collecting() as found:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        provider = TracerProvider(
            resource=Resource({SERVICE_NAME: "airflow"}), id_generator=traces.OverrideableRandomIdGenerator()
        )
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{found.url}/v1/traces")))
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
        for module in (dagrun, task_instances, task_runner, traces):
            monkeypatch.setattr(module, "tracer", provider.get_tracer("airflow"))
        yield found
        provider.shutdown()


class Release:
    """A run of the release's DAG, as far as its spans go."""

    def __init__(self) -> None:
        now = datetime.now(UTC)
        self.run = SimpleNamespace(
            dag_id=DAG_ID, run_id="run-1", run_type="manual", start_date=now, end_date=now, queued_at=now,
            created_at=now, logical_date=None, partition_key=None, partition_date=None,
            context_carrier=traces.new_dagrun_trace_carrier(),
        )  # fmt: skip

    @contextmanager
    def task(self, name: str) -> Iterator[Instance]:
        """A task of the run while it runs, in the process of its own that Airflow gives it."""
        instance = Instance(DAG_ID, name)
        instance.id, instance.dag_run, instance.queued_dttm = name, self.run, datetime.now(UTC)
        instance.start_date = instance.queued_dttm
        instance.context_carrier = traces.new_task_run_carrier(self.run.context_carrier)
        with task_runner._make_task_span(SimpleNamespace(ti=instance)):
            yield instance
        task_instances._emit_task_span(instance, TaskInstanceState.SUCCESS)

    def end(self) -> None:
        dagrun.DagRun._emit_dagrun_span(self.run, DagRunState.SUCCESS)


def job_told(instance: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The tags of a job's runs in MLflow. What hands the trace on is the base of all operators that start jobs."""
    submitted: list[Any] = []
    monkeypatch.setattr(JobRunOperator, "_unfailed_token", lambda self, context, key: key)
    monkeypatch.setattr(JobRunOperator.__mro__[1], "execute", lambda self, context: submitted.extend(self.tasks))
    monkeypatch.setenv("TRACEPARENT", "")  # the job's own, which is put back at the end
    TrainingRunOperator(task_id=instance.task_id, use_case=USE_CASE, code=CODE).execute({"ti": instance, "params": {}})
    parameters = submitted[0]["spark_python_task"]["parameters"]
    job_trace.take_up(parameters[parameters.index("--trace-parent") + 1])
    return job_trace.trace_tags()


def told(variables: list[Any]) -> str:
    """What the containers of a pod or a group are told as their trace."""
    (found,) = {variable.value for variable in variables if variable.name == "TRACEPARENT"}
    return str(found)


@pytest.fixture
def released(collector, monkeypatch, tmp_path) -> SimpleNamespace:
    """What a release has left behind: the trace id of its evidence, what parts were told, spans and log lines."""
    monkeypatch.setattr("lifecycle.operators.steps.VERIFY_SECONDS", 0.3)
    built = build_image(tmp_path / "images", tmp_path, make_bundle(tmp_path / "bundle", 1), "1")
    release, parts = Release(), {}

    def work(instance: Any, step: Any, target: Any, what: Any) -> Work:
        return Work(USE_CASE, step, target, what, "1", f"key-{step}", trace_parent=trace_parent(instance))

    with release.task("preview_impact") as instance:
        parts["job"] = job_told(instance, monkeypatch)[tags.TRACE_ID]
    with release.task("try_image") as instance:
        place = Connection("scoring_qa", CONNECTION_TYPE, extra=PLACE)
        group = GroupStep(place, work(instance, "try", "staging", IMAGE))._group()
        parts["group"] = told([one for container in group.containers for one in container.environment_variables])
    with release.task("deploy_production") as instance:
        found = pods.pod_parts(work(instance, "deploy", "production", IMAGE))
        parts["pod"] = told(found.env_vars)
    bundle, release_file = f"{built.place}/bundle", f"{built.place}/release.json"
    with Server(tmp_path, bundle, RELEASE=release_file) as server, release.task("verify_production") as instance:
        slot: Any = SimpleNamespace(
            url=f"http://127.0.0.1:{server.port}",
            key=KEY,
            status=lambda: SimpleNamespace(stable=SimpleNamespace(pid=server.process.pid)),
        )
        report = LocalSteps(slot, work(instance, "verify", "production", built)).run()
        assert report["passed"], report
        evidence = trace_id(instance)
    release.end()
    answers = [line for line in server.log_lines() if line["type"] == "OutputData"]
    assert eventually(lambda: len([span for span in collector.spans if span.server]) >= len(answers))
    return SimpleNamespace(evidence=evidence, parts=parts, spans=collector.spans, server=server)


def chain(spans: dict[str, Span], span: Span) -> list[str]:
    """Names from a span up to the root; raises ``KeyError`` where a parent was never exported."""
    return [span.name, *(chain(spans, spans[span.parent]) if span.parent else ())]


def test_whole_trace_of_a_release_is_read_back(released):
    spans = {span.span: span for span in released.spans}
    assert len(spans) == len(released.spans)
    assert {span.trace for span in spans.values()} == {released.evidence}
    assert released.parts["job"] == released.evidence, "the job's runs in MLflow"
    by_name = {span.name: span.span for span in spans.values()}
    for part, task in (("group", "try_image"), ("pod", "deploy_production")):
        assert released.parts[part] == f"00-{released.evidence}-{by_name[f'worker.{task}']}-01"
    root = f"dag_run.{DAG_ID}"
    tasks = ("preview_impact", "try_image", "deploy_production", "verify_production")
    assert {tuple(chain(spans, span)) for span in spans.values()} == {
        (root,),
        *((f"task_run.{task}", root) for task in tasks),
        *((f"worker.{task}", f"task_run.{task}", root) for task in tasks),
        ("POST /predict", "worker.verify_production", "task_run.verify_production", root),
    }
    lines = released.server.log_lines()
    traced = {line["request_id"] for line in lines if line.get("trace_id") == released.evidence}
    answered = {span.attributes["scoring.request_id"] for span in spans.values() if span.server}
    assert traced, "what was logged carries the trace too"
    assert traced <= answered, "each logged request has its span"


def test_queries_of_the_runbooks_find_the_release_and_one_of_its_requests(released):
    use_case = load(USE_CASE)
    workspace = Workspace(use_case)
    for span in released.spans:
        workspace.span(span)
    server = released.server
    for source in ("stdout", "stderr"):
        for line in getattr(server, source).read_text().splitlines():
            workspace.log(line, source=source)
    rows = workspace.ask("", render.query(use_case, "trace_of_release").replace("TRACE_ID", released.evidence))
    assert len(rows) == len(released.spans), "every span once, whatever was logged beside it"
    assert {row["Span"] for row in rows} == {span.span for span in released.spans}
    scored = [row for row in rows if row["Outputs"]]
    assert {row["RequestId"] for row in scored} == {line["request_id"] for line in server.log_lines()}
    assert {(row["Name"], row["Version"], row["Status"]) for row in scored} == {("POST /predict", "1", 200)}

    request = scored[0]["RequestId"]
    found = workspace.ask("", render.query(use_case, "trace_of_request").replace("REQUEST_ID", request))
    assert {"Access", "InputData", "OutputData", "POST /predict"} <= {row["Name"] for row in found}
    assert {f"dag_run.{DAG_ID}", "worker.verify_production"} <= {row["Name"] for row in found}, "who called"
    assert [row["Name"] for row in found].count("POST /predict") == 1, "and no other request of the trace"
    assert {row["TraceId"] for row in found} == {released.evidence}
