"""ACR builds, against a local double of Azure's calls."""

import io
import json
import logging
import tarfile
import threading
import time
from types import SimpleNamespace

import msgspec
import pytest
from airflow.models.connection import Connection

from lifecycle.builders import BuildError, WrongModelError
from lifecycle.builders.acr import RUN_ID as REMEMBERED
from lifecycle.builders.acr import AcrBuilder
from lifecycle.builders.context import KEY_LABEL, Inputs
from lifecycle.image_reference import ImageReference
from tests.support.airflow import Memory
from tests.support.azure_double import DIGEST, RUN_ID, AzureDouble
from tests.support.certificate import write_certificate

INPUTS = Inputs(
    model_name="employee_attrition",
    model_version="3",
    run_id="run",
    data_digest="d",
    revision="abc",
    code_hash="c",
    bundle_hash="b",
    repository="attrition-scoring",
    base_image="python:3.11-slim",
)
NAME = f"attrition-scoring:{INPUTS.tag}"
OURS = {KEY_LABEL: INPUTS.key}
RUN_ID_KEY = f"{REMEMBERED}:{INPUTS.tag}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def azure(certificate, monkeypatch):
    """The double, trusted by everything that speaks through requests."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    double = AzureDouble(certificate)
    yield double
    double.close()


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "context"
    (folder / "serving").mkdir(parents=True)
    (folder / "serving" / "Dockerfile").write_text("FROM scratch\n")
    (folder / "release.json").write_text('{"created": "2026-11-21T09:00:00+00:00"}')
    return folder


def connection(azure, **arguments):
    extra = {"subscription_id": "sub", "resource_group": "rg", "arm_url": azure.url}
    given = {"conn_type": "azure_container_registry", "host": "localhost", "port": azure.port, "extra": extra}
    return Connection(conn_id="registry", **{**given, **arguments})


def builder(azure, **arguments):
    token = SimpleNamespace(token="arm token", expires_on=time.time() + 3600)
    credential = SimpleNamespace(get_token=lambda *scopes, **_: token)
    return AcrBuilder(connection(azure, **arguments), credential=lambda _: credential, poll_seconds=0.02)


def test_build_uploads_the_context_schedules_one_run_and_returns_the_digest(azure, context):
    memory = Memory()
    built = builder(azure).build(INPUTS, context, memory)
    assert built == ImageReference(f"localhost:{azure.port}/attrition-scoring", DIGEST)
    assert azure.upload_headers["x-ms-blob-type"] == "BlockBlob"
    with tarfile.open(fileobj=io.BytesIO(azure.context)) as archive:
        assert "./serving/Dockerfile" in archive.getnames()
    (request,) = azure.scheduled
    assert request["type"] == "DockerBuildRequest"
    assert request["imageNames"] == [f"attrition-scoring:{INPUTS.tag}"]
    assert request["isPushEnabled"] is True
    assert request["sourceLocation"] == "source/context.tar.gz"
    assert request["dockerFilePath"] == "serving/Dockerfile"
    assert {"name": "MODEL_VERSION", "value": "3", "isSecret": False} in request["arguments"]
    assert {"name": "INPUTS", "value": INPUTS.key, "isSecret": False} in request["arguments"]
    assert memory[RUN_ID_KEY] == RUN_ID


def test_log_of_the_run_is_copied_line_by_line_and_once(azure, context, caplog):
    with caplog.at_level(logging.INFO, logger="lifecycle.builders.acr"):
        builder(azure).build(INPUTS, context, Memory())
    assert [line for line in caplog.messages if line.startswith("Step")] == ["Step 1/2", "Step 2/2"]


DEPENDENCIES = """2026/11/18 18:32:43 The following dependencies were found:
2026/11/18 18:32:43
- image:
    registry: r.azurecr.io
    repository: attrition-scoring
    tag: v3
    digest: sha256:{image}
  runtime-dependency:
    registry: {server}
    repository: {repository}
    tag: 3.11-slim
    digest: sha256:{base}
  git: {{}}

Run ID: da1 was successful after 1m9.970148252s
"""
"""The end of a run's log, as Microsoft's tutorial "Build and deploy container images with ACR Tasks" prints it."""


@pytest.mark.parametrize(
    ("base_image", "server", "repository", "told"),
    [
        ("python:3.11-slim", "registry.hub.docker.com", "library/python", True),
        ("r.azurecr.io/bases/python:3.11-slim", "r.azurecr.io", "bases/python", True),
        ("bases/python:3.11-slim", "registry.hub.docker.com", "bases/python", True),
        ("python:3.11-slim", "registry.hub.docker.com", "library/node", False),
        ("python:3.11-slim", "registry.hub.docker.com", "library/cpython", False),
    ],
)
def test_base_image_is_named_by_the_digest_that_the_log_tells(azure, context, base_image, server, repository, told):
    base = "ba" * 32
    azure.log = [DEPENDENCIES.format(image="cc" * 32, base=base, server=server, repository=repository).encode()]
    inputs = msgspec.structs.replace(INPUTS, base_image=base_image)
    made, other = builder(azure), builder(azure)
    made.build(inputs, context, Memory())
    known = f"{base_image}, digest sha256:{base}"
    assert made.base(inputs) == (known if told else f"{base_image}, of a digest that ACR has not told")
    assert other.base(inputs) == f"{base_image}, of a digest that ACR has not told"
    pinned = msgspec.structs.replace(INPUTS, base_image=f"{base_image}@sha256:{base}")
    assert other.base(pinned) == known
    assert pinned.key != inputs.key


def test_failed_run_raises_with_its_message_and_the_end_of_its_log(azure, context):
    azure.statuses, azure.error_message = ["Running", "Failed"], "step 2 failed"
    azure.log = [b"", b"Step 1/2\nCould not find a version that satisfies flask\n"]
    with pytest.raises(BuildError, match=r"ended as Failed: step 2 failed\n(.*\n)*Could not find") as raised:
        builder(azure).build(INPUTS, context, Memory())
    assert not isinstance(raised.value, WrongModelError)


def test_run_that_failed_on_the_golden_answers_is_a_wrong_model(azure, context):
    azure.statuses = ["Failed"]
    azure.log = [b"FAILED bundle: the model is not the one that was registered: example 0\n"]
    with pytest.raises(WrongModelError, match="example 0"):
        builder(azure).build(INPUTS, context, Memory())


@pytest.mark.parametrize("status", ["Error", "Timeout", "Canceled"])
def test_run_that_ends_otherwise_raises_and_names_the_status(azure, context, status):
    azure.statuses = ["Running", status]
    with pytest.raises(BuildError, match=f"ended as {status}"):
        builder(azure).build(INPUTS, context, Memory())


@pytest.mark.parametrize("action", ["listBuildSourceUploadUrl", "scheduleRun", "listLogSasUrl", "get run"])
def test_throttled_call_is_repeated_when_azure_says_and_starts_one_run(azure, context, action):
    azure.throttled[action] = 2
    began = time.monotonic()
    assert builder(azure).build(INPUTS, context, Memory()).digest == DIGEST
    assert time.monotonic() - began >= 2
    assert azure.throttled[action] == 0
    assert len(azure.scheduled) == 1


def test_throttling_without_end_fails_with_what_azure_said(azure, context):
    azure.throttled["scheduleRun"] = 1000
    with pytest.raises(BuildError, match="Azure refused: 429 TooManyRequests"):
        builder(azure).build(INPUTS, context, Memory())
    assert azure.scheduled == []


def test_subscription_without_tasks_is_explained(azure, context):
    azure.refuse = {"error": {"code": "TasksOperationsNotAllowed", "message": "not allowed"}}
    with pytest.raises(BuildError, match=r"free credit.*connection of type docker"):
        builder(azure).build(INPUTS, context, Memory())
    assert azure.calls["scheduleRun"] == 1


def test_cancel_ends_the_run_under_way(azure, context):
    azure.statuses = ["Running"]
    running, errors = builder(azure), []

    def build():
        try:
            running.build(INPUTS, context, Memory())
        except BuildError as error:
            errors.append(str(error))

    thread = threading.Thread(target=build)
    thread.start()
    deadline = time.monotonic() + 20
    while azure.polls < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.cancel()
    thread.join(20)
    assert azure.calls["cancel"] == 1
    assert errors
    assert "ended as Canceled" in errors[0]


def test_run_of_a_killed_try_is_followed_and_not_doubled(azure, context):
    azure.scheduled.append({"imageNames": [f"attrition-scoring:{INPUTS.tag}"]})
    azure.statuses = ["Running", "Running", "Succeeded"]
    built = builder(azure).build(INPUTS, context, Memory({RUN_ID_KEY: RUN_ID}))
    assert built.digest == DIGEST
    assert azure.calls["scheduleRun"] == azure.calls["upload"] == 0


def test_run_that_was_for_other_inputs_is_not_taken_for_this_one(azure, context):
    """A task that was cleared after an update followed the run of before, whatever it tried."""
    earlier = msgspec.structs.replace(INPUTS, code_hash="of before")
    memory = Memory()
    builder(azure).build(earlier, context, memory)
    builder(azure).build(INPUTS, context, memory)
    assert [request["imageNames"] for request in azure.scheduled] == [
        [f"attrition-scoring:{inputs.tag}"] for inputs in (earlier, INPUTS)
    ]


def test_run_that_azure_knows_no_more_is_followed_by_a_new_one(azure, context):
    assert builder(azure).build(INPUTS, context, Memory({RUN_ID_KEY: "forgotten"})).digest == DIGEST
    assert azure.calls["scheduleRun"] == 1


def test_run_of_an_earlier_try_that_failed_is_followed_by_a_new_one(azure, context):
    azure.statuses, azure.new_statuses = ["Failed"], ["Running", "Succeeded"]
    assert builder(azure).build(INPUTS, context, Memory({RUN_ID_KEY: RUN_ID})).digest == DIGEST
    assert azure.calls["scheduleRun"] == 1


def test_digest_is_asked_of_the_registry_where_the_run_names_no_image(azure, context):
    azure.output_images = False
    pushed = azure.push(NAME, OURS)
    assert builder(azure).build(INPUTS, context, Memory()).digest == pushed
    assert azure.calls["exchange"] == azure.calls["token"] == 1


def test_image_with_the_tag_of_the_same_inputs_is_found(azure):
    assert builder(azure).find(INPUTS) is None
    pushed = azure.push(NAME, OURS)
    assert builder(azure).find(INPUTS) == ImageReference(f"localhost:{azure.port}/attrition-scoring", pushed)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        pytest.param({}, "missing", id="no label"),
        pytest.param({KEY_LABEL: "f" * 64}, "f" * 64, id="of other inputs"),
        pytest.param(None, "missing", id="an index of several images"),
    ],
)
def test_image_that_somebody_else_pushed_to_the_tag_is_refused_by_its_digest(azure, labels, said):
    """Whoever may push can guess the tag; the one who approves sees the image's digest alone."""
    planted = azure.push(NAME, labels)
    with pytest.raises(
        BuildError, match=rf"is {planted}, which this project did not build .*is {said}, not {INPUTS.key}"
    ):
        builder(azure).find(INPUTS)


def test_configuration_that_is_not_the_one_of_the_manifest_is_not_believed(azure):
    azure.push(NAME, {})
    (config,) = [name for name in azure.content if name.startswith("sha256:")]
    azure.content[config] = json.dumps({"config": {"Labels": OURS}}).encode()
    with pytest.raises(BuildError, match="which this project did not build"):
        builder(azure).find(INPUTS)


def test_registry_password_is_used_where_the_connection_has_one(azure):
    pushed = azure.push(NAME, OURS)
    assert builder(azure, login="user", password="secret").find(INPUTS).digest == pushed
    assert azure.calls["exchange"] == 0


def test_connection_without_a_resource_group_is_refused_by_name(azure):
    with pytest.raises(BuildError, match=r"needs .*\(missing: resource_group\)"):
        builder(azure, extra={"subscription_id": "sub"})
