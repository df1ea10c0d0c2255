"""What the project asks of Databricks is what Databricks' own client would ask: the same method, path, query and body.

Each request that the project sends is recorded by an HTTP double, read into the arguments of the official client's
call, and sent again by that client. Reading alone proves nothing, for the models drop what they do not know.
"""

import io
import json
import os
import typing
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests
from airflow.sdk.exceptions import TaskDeferred

from lifecycle import settings
from lifecycle.hooks.databricks import WorkspaceHook
from lifecycle.operators.batch_run import BatchRunOperator
from lifecycle.operators.job_run import JobRunOperator
from lifecycle.operators.nightly_run import NightlyRunOperator
from lifecycle.operators.training_run import TrainingRunOperator
from lifecycle.tasks.publish import publish
from tests.support.airflow import USE_CASE, make_settings
from tests.support.http_double import Double, Request, serving
from tests.support.smoke_calls import calls_of
from training.use_case import load

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

CODE = {"path": "/Shared/lifecycle/code/0123", "code_hash": "0123", "git_revision": "abc"}
CLUSTER = {
    "spark_version": "16.4.x-scala2.13",
    "node_type_id": "Standard_D4ds_v5",
    "num_workers": 1,
    "data_security_mode": "SINGLE_USER",
}
COMPUTE = {
    "serverless": settings.Training(compute="serverless"),
    "job_cluster": settings.Training(compute="job_cluster", new_cluster=CLUSTER),
}
OPERATORS: dict[str, tuple[type[JobRunOperator], dict[str, Any]]] = {
    "training": (TrainingRunOperator, {}),
    "night": (NightlyRunOperator, {"nights": ["2026-11-02"]}),
    "batch": (BatchRunOperator, {"pinned": {"version": "3", "date": "2026-11-02"}}),
}
RUNNING = {
    "run_id": 1,
    "job_id": 2,
    "run_page_url": "http://run",
    "state": {"life_cycle_state": "RUNNING", "state_message": ""},
}


def answer(request: Request) -> tuple[int, Any]:
    """What a workspace would."""
    if request.path.endswith("get-status"):
        return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such path"}
    return 200, RUNNING


@pytest.fixture
def double(monkeypatch) -> Iterator[Double]:
    with serving(answer) as made:
        address = {"schema": "http", "host": "127.0.0.1", "port": made.port}
        connection = {"conn_type": "databricks", **address, "password": "token"}
        monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", json.dumps(connection))
        yield made


@pytest.fixture
def official(double, monkeypatch) -> "WorkspaceClient":
    """Databricks' own client, at the double."""
    # Imported here and below: the package takes a second, of each worker that collects this file.
    from databricks.sdk import WorkspaceClient

    for name in [name for name in os.environ if name.startswith(("DATABRICKS_", "ARM_"))]:
        monkeypatch.delenv(name)
    return WorkspaceClient(host=double.url, token="token", auth_type="pat")


def call_of(client: "WorkspaceClient", path: str) -> Callable[..., Any]:
    """The official client's call for a path."""
    return {
        "runs/submit": client.jobs.submit,
        "runs/get": client.jobs.get_run,
        "runs/get-output": client.jobs.get_run_output,
        "runs/cancel": client.jobs.cancel_run,
        "workspace/mkdirs": client.workspace.mkdirs,
        "workspace/import": client.workspace.import_,
        "workspace/get-status": client.workspace.get_status,
    }[path.partition("/jobs/")[2] or path.partition("/2.0/")[2]]


def said_again(double: Double, client: "WorkspaceClient", request: Request) -> Request:
    """The same request, made by the official client; raises ``TypeError`` for an argument that it does not have."""
    from databricks.sdk.service import jobs, workspace

    call = call_of(client, request.path)
    hints = typing.get_type_hints(call, {**vars(jobs), **vars(workspace)})
    arguments = {}
    for name, value in {**request.query, **(request.body or {})}.items():
        if name not in hints:
            raise TypeError(f"{request.path} has no argument {name}")
        arguments[name] = _read(hints[name], value)
    found = double.asked(lambda: _tolerant(lambda: call(**arguments)))
    return found[0]


def _tolerant(doing: Callable[[], object]) -> None:
    """The client raises what the double answers to a question about a file that is not there."""
    from databricks.sdk.errors import NotFound

    try:
        doing()
    except NotFound:
        return


def _read(hint: Any, value: Any) -> Any:
    """A value as the client's call takes it: its own models and enumerations."""
    (kind, *_) = [part for part in typing.get_args(hint) if part is not type(None)] or [hint]
    if typing.get_origin(kind) is list:
        return [_read(typing.get_args(kind)[0], entry) for entry in value]
    if hasattr(kind, "from_dict"):
        return kind.from_dict(value)
    return kind(value)


def checked(double: Double, client: "WorkspaceClient", requests: list[Request]) -> None:
    """Every request is the one that the official client makes."""
    assert requests
    for request in requests:
        again = said_again(double, client, request)
        assert again.body == request.body, request.path
        assert again == request


def submitted(double: Double, monkeypatch, kind: str, compute: str) -> list[Request]:
    """What an operator asks until it waits."""
    operator, arguments = OPERATORS[kind]
    configured = make_settings({"data": "rows.csv", "outcomes": "/Volumes/x"}, training=COMPUTE[compute])
    monkeypatch.setattr(settings, "load", lambda: configured)
    monkeypatch.setattr(BatchRunOperator, "check_approval", lambda self: None)
    made = operator(task_id="job", use_case=USE_CASE, code=CODE, **arguments)
    instance = SimpleNamespace(
        dag_id="the_dag", run_id="r1", task_id="job", try_number=1, xcom_push=lambda key, value: None
    )

    def run() -> None:
        with pytest.raises(TaskDeferred):
            made.execute({"ti": instance, "params": {}})

    return double.asked(run)


@pytest.mark.parametrize("compute", sorted(COMPUTE))
@pytest.mark.parametrize("kind", sorted(OPERATORS))
def test_job_is_submitted_as_the_official_client_would(double, official, monkeypatch, kind, compute):
    requests = submitted(double, monkeypatch, kind, compute)
    checked(double, official, requests)
    sent = next(request.body for request in requests if request.path.endswith("runs/submit"))
    assert len(sent["tasks"]) == len(OPERATORS[kind][0].steps)
    assert sent["idempotency_token"]


def test_code_is_published_as_the_official_client_would(double, official):
    requests = double.asked(lambda: publish(WorkspaceHook(), load(USE_CASE), "/Shared/lifecycle/code"))
    assert {request.path.rpartition("/")[2] for request in requests} == {"get-status", "mkdirs", "import"}
    kinds = {request.path: request for request in requests}
    checked(double, official, list(kinds.values()))


def test_run_is_asked_for_and_cancelled_as_the_official_client_would(double, official):
    hook = WorkspaceHook()
    requests = double.asked(lambda: (hook.get_run_state(7), hook.get_run_output(7), hook.cancel_run(7)))
    assert len(requests) == 3
    for request in requests:
        again = said_again(double, official, request)
        # The provider writes the number of a run into the body of a question too.
        numbers = [{**found.query, **(found.body or {})} for found in (request, again)]
        assert [{name: int(value) for name, value in found.items()} for found in numbers] == [{"run_id": 7}] * 2
        assert (again.method, again.path) == (request.method, request.path)


@pytest.mark.parametrize(
    "where",
    [
        ("run_name",),
        ("tasks", 0, "timeout_seconds"),
        ("tasks", 1, "depends_on"),
        ("tasks", 1, "depends_on", 0, "task_key"),
        ("tasks", 0, "spark_python_task", "python_file"),
        ("tasks", 0, "environment_key"),
        ("environments", 0, "spec", "environment_version"),
    ],
)
def test_misspelt_member_of_a_job_is_found(double, official, monkeypatch, where):
    requests = submitted(double, monkeypatch, "training", "serverless")
    request = next(request for request in requests if request.path.endswith("runs/submit"))
    holder: Any = request.body
    for step in where[:-1]:
        holder = holder[step]
    holder[f"{where[-1]}s"] = holder.pop(where[-1])
    with pytest.raises((AssertionError, TypeError)):
        checked(double, official, [request])


@pytest.mark.parametrize("member", ["content", "format", "overwrite"])
def test_misspelt_member_of_a_file_is_found(double, official, member):
    requests = double.asked(lambda: WorkspaceHook().write_file("/Shared/a.py", b"pass"))
    requests[0].body[f"{member}s"] = requests[0].body.pop(member)
    with pytest.raises((AssertionError, TypeError)):
        checked(double, official, requests)


TABLE = "1\n"
"""Whoever does not say that it is a stream of bytes sends JSON with it."""


def rest(folder: Any) -> list[str]:
    """The call of ``az rest`` by which a smoke run uploads its table."""
    (call,) = [call for call in calls_of(folder, "az", ("outputs", "data"), TABLE) if call[0] == "rest"]
    return call


def sent(call: list[str], double: Double) -> list[Request]:
    """What such a call sends, led to the double; ``az`` itself parses it in ``make azure-check``."""
    said = dict(zip(call[1::2], call[2::2], strict=False))
    place = urlsplit(said["--url"])
    header, _, value = said["--headers"].partition("=")
    with open(said["--body"].removeprefix("@"), "rb") as table:
        arguments = {"params": place.query, "data": table, "headers": {header: value, "Authorization": "Bearer token"}}
        return double.asked(lambda: requests.request(said["--method"], f"{double.url}{place.path}", **arguments))


def uploaded(call: list[str], double: Double, client: "WorkspaceClient") -> tuple[list[Request], list[Request]]:
    """What is sent, and what the official client sends for the same file."""
    from databricks.sdk.service.files import FilesAPI

    path = urlsplit(call[call.index("--url") + 1]).path.partition("/fs/files")[2]
    files = FilesAPI(client.api_client)
    official = double.asked(lambda: files.upload(path, io.BytesIO(TABLE.encode()), overwrite=True))
    return sent(call, double), official


def test_table_is_uploaded_as_the_official_client_would(double, official, tmp_path):
    from databricks.sdk.environments import ARM_DATABRICKS_RESOURCE_ID

    call = rest(tmp_path)
    ours, theirs = uploaded(call, double, official)
    assert ours == theirs
    assert ours[0].body == TABLE
    assert call[call.index("--resource") + 1] == ARM_DATABRICKS_RESOURCE_ID, "whom the token is for"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("put", "post"),
        ("/2.0/fs/", "/2.0/dbfs/"),
        ("overwrite=", "overwrites="),
        ("Content-Type", "Content-Typ"),
        ("octet-stream", "octets-stream"),
    ],
)
def test_misspelt_upload_is_found(double, official, tmp_path, old, new):
    call = rest(tmp_path)
    planted = [word.replace(old, new) for word in call]
    assert planted != call, "the test has to plant something"
    _, theirs = uploaded(call, double, official)
    assert sent(planted, double) != theirs
