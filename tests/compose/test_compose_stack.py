"""The stack's own image is built and the stack is up, with Debian's programs for images that cannot be pulled.

``make test-docker``. Not covered here, for want of the images: k3s, and Azurite with the log export, which
``make test-azurite`` has.
"""

import json
import os
import re
import shutil
import subprocess
import time
from importlib.metadata import version

import pytest
import requests

from compose import init
from tests.support.compose_project import ROOT, Project, find
from tests.support.machine import free_ports
from tests.support.names import dags as dags_of
from training.use_case import load_all

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1500)]
HERE = ROOT / "tests" / "compose"
PORTS = ("AIRFLOW", "MLFLOW", "MINILAKE", "REGISTRY")
UP = {"postgres", "api-server", "scheduler", "dag-processor", "triggerer", "mlflow", "minilake", "registry", "builder"}
MIB = 2**20


def docker(*arguments, ok=True, **options):
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0 or not ok, f"docker {' '.join(arguments)}: {done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    if not shutil.which("docker") or docker("info", ok=False).returncode:
        pytest.fail("no Docker engine answers: start one, or set DOCKER_HOST")
    return find(tmp_path_factory.mktemp("compose-cli"))


@pytest.fixture(scope="session")
def project(command):
    """The project under a name and on ports of its own; all of it is removed at the end."""
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    made = Project(
        command,
        f"lifecycle-test-{os.getpid()}",
        [ROOT / "docker-compose.yaml", HERE / "stand-ins.yaml", HERE / "without-cluster.yaml"],
        {f"LIFECYCLE_{name}_PORT": port for name, port in ports.items()},
    )
    try:
        yield made
    finally:
        made.run("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")


@pytest.fixture(scope="session")
def image(project):
    began = time.monotonic()
    project.run("build", "init", seconds=1200)
    size = int(docker("image", "inspect", "--format", "{{.Size}}", "lifecycle-stack").stdout)
    print(f"\nlifecycle-stack: built in {time.monotonic() - began:.0f} s, {size / MIB:.0f} MiB")
    return "lifecycle-stack"


@pytest.fixture(scope="session")
def stack(project, image):
    """The stack, up and healthy."""
    project.run("build", "postgres", seconds=1200)
    began = time.monotonic()
    project.run("up", "--detach", "--wait", "--wait-timeout", "600", seconds=700)
    print(f"\nthe stack is healthy after {time.monotonic() - began:.0f} s")
    return project


def expected_dags():
    """Those of each use case."""
    use_cases, faults = load_all()
    assert faults == ()
    return set().union(*map(dags_of, use_cases))


def run_in(image, *arguments):
    """A command in a container as locked up as in the compose file, and without a network."""
    locked = ["--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    # What the compose file and its secrets set, and DAG files read with the settings.
    locked += [
        "--env=LIFECYCLE_APPROVAL_KEYS=[]",
        "--env=LIFECYCLE_BUNDLE_KEYS=[]",
        "--env=LIFECYCLE_IMAGE_KEYS=[]",
        "--env=LIFECYCLE_AIRFLOW_PORT=8080",
        "--env=LIFECYCLE_MLFLOW_PORT=5050",
    ]
    return docker("run", *locked, "--tmpfs=/tmp", "--tmpfs=/airflow:uid=10001,gid=10001,mode=0700", image, *arguments)


# --- the compose file, as docker compose reads it ---


def test_compose_file_is_valid(command):
    config = Project(command, "valid", [ROOT / "docker-compose.yaml"]).config()
    assert set(config["services"]) > UP | {"k3s", "cluster", "azurite"}


def test_own_cluster_leaves_k3s_out_and_mounts_the_given_kubeconfig(command, tmp_path):
    files = [ROOT / "docker-compose.yaml", ROOT / "compose" / "own-cluster.yaml"]
    config = Project(command, "own", files, {"LIFECYCLE_KUBECONFIG": str(tmp_path / "mine")}).config()
    assert "k3s" not in config["services"]
    cluster = config["services"]["cluster"]
    assert {"source": str(tmp_path / "mine"), "target": "/admin.kubeconfig"}.items() <= next(
        volume for volume in cluster["volumes"] if volume["target"] == "/admin.kubeconfig"
    ).items()
    assert cluster["environment"]["ACCESS"] == ""


def test_own_cluster_without_a_kubeconfig_is_refused_with_what_to_do(command):
    files = [ROOT / "docker-compose.yaml", ROOT / "compose" / "own-cluster.yaml"]
    done = Project(command, "own", files, {"LIFECYCLE_KUBECONFIG": ""}).run("config", "--quiet", ok=False)
    assert done.returncode != 0
    assert "name the kubeconfig of your cluster" in done.stderr


# --- the image ---


def test_image_has_the_pinned_airflow_and_runs_as_nobody_special(image):
    assert run_in(image, "airflow", "version").stdout.strip() == version("apache-airflow")
    assert run_in(image, "id", "-u").stdout.strip() == "10001"


def test_image_is_under_two_gigabytes(image):
    assert int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout) < 2e9


def test_every_dag_imports_in_the_image_with_a_read_only_root_and_no_network(image):
    script = (
        "import json; from airflow.dag_processing.dagbag import DagBag; bag = DagBag('/opt/lifecycle/dags');"
        "print(json.dumps([sorted(bag.dags), bag.import_errors]))"
    )
    dags, errors = json.loads(run_in(image, "python", "-c", script).stdout.splitlines()[-1])
    assert errors == {}
    assert set(dags) == expected_dags()


def test_image_holds_the_code_and_nothing_of_the_clone_beside_it(image):
    found = run_in(image, "sh", "-c", "cd /opt/lifecycle && ls -A").stdout.split()
    assert sorted(found) == [
        "compose",
        "config",
        "dags",
        "embedded",
        "images.lock",
        "k8s",
        "plugins",
        "serving",
        "training",
        "use_cases",
    ]
    suspicious = r"\.(pem|key|p12|db)$|/\.env|\.git/|kubeconfig$|passwords?\.json$"
    names = run_in(image, "find", "/opt/lifecycle", "/airflow", "/run/lifecycle", "-type", "f").stdout.split()
    assert [name for name in names if re.search(suspicious, name)] == []


def test_image_can_write_nowhere_but_in_its_tmpfs(image):
    script = (
        "for place in /opt/lifecycle /opt/venv /etc /tmp /airflow; do touch $place/x 2>/dev/null && echo $place; done"
    )
    assert run_in(image, "sh", "-c", script).stdout.split() == ["/tmp", "/airflow"]


# --- the stack ---


def test_stack_is_healthy_and_its_one_shots_have_succeeded(stack):
    states = stack.states()
    assert {name for name, state in states.items() if state["Health"] == "healthy"} == UP
    assert {name: state["ExitCode"] for name, state in states.items() if name not in UP} == {
        "init": 0,
        "migrate": 0,
        "cluster": 0,
    }


def secrets_of(stack):
    text = stack.run("run", "--rm", "--no-deps", "--entrypoint", "cat", "init", "/made/secrets/secrets.json").stdout
    return json.loads(text)


@pytest.fixture(scope="session")
def airflow(stack):
    """Airflow's address, and the header of the generated user."""
    url = f"http://127.0.0.1:{stack.variables['LIFECYCLE_AIRFLOW_PORT']}"
    login = {"username": "admin", "password": secrets_of(stack)["airflow_password"]}
    token = requests.post(f"{url}/auth/token", json=login, timeout=240).json()["access_token"]
    return f"{url}/api/v2", {"Authorization": f"Bearer {token}"}


def test_airflow_lets_the_generated_user_in_and_shows_every_dag(airflow):
    api, headers = airflow
    expected = expected_dags()
    deadline = time.monotonic() + 240
    while True:
        found = {dag["dag_id"] for dag in requests.get(f"{api}/dags", headers=headers, timeout=240).json()["dags"]}
        if found == expected or time.monotonic() > deadline:
            break
        time.sleep(2)
    assert requests.get(f"{api}/importErrors", headers=headers, timeout=240).json()["import_errors"] == []
    assert found == expected
    assert requests.get(f"{api}/dags", timeout=240).status_code == 401


def test_training_run_registers_a_version_and_leaves_lineage_from_its_data_to_it(stack, airflow):
    api, headers = airflow
    train = f"{api}/dags/attrition_train"
    requests.patch(train, json={"is_paused": False}, headers=headers, timeout=240).raise_for_status()
    asked = {"dag_run_id": "compose", "logical_date": None, "conf": {"trials": 3, "force": True}}
    requests.post(f"{train}/dagRuns", json=asked, headers=headers, timeout=240).raise_for_status()
    deadline = time.monotonic() + 600
    while True:
        state = requests.get(f"{train}/dagRuns/compose", headers=headers, timeout=240).json()["state"]
        if state in ("success", "failed") or time.monotonic() > deadline:
            break
        time.sleep(2)
    assert state == "success", stack.run("logs", "--tail", "50", "scheduler", "minilake").stdout
    script = (
        "import mlflow; client = mlflow.MlflowClient('http://mlflow:5000');"
        "print(client.get_model_version_by_alias('employee_attrition', 'challenger').version)"
    )
    assert stack.inside("scheduler", "python", "-c", script).stdout.strip() == "1"
    events = map(json.loads, stack.inside("scheduler", "cat", "/logs/openlineage.jsonl").stdout.splitlines())
    led = {
        (i["name"], o["name"]) for event in events for i in event.get("inputs", []) for o in event.get("outputs", [])
    }
    assert ("/data/attrition.csv", "models/employee_attrition") in led


def test_minilake_answers_the_connection_of_airflow_and_nobody_else(stack):
    url = f"http://127.0.0.1:{stack.variables['LIFECYCLE_MINILAKE_PORT']}/api/2.2/jobs/list"
    token = secrets_of(stack)["minilake_token"]
    assert requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=240).status_code == 200
    assert requests.get(url, headers={"Authorization": "Bearer dev"}, timeout=240).status_code == 403


def test_mlflow_keeps_runs_in_postgres_and_artifacts_in_its_volume(stack):
    script = (
        "import mlflow; mlflow.set_tracking_uri('http://mlflow:5000'); mlflow.set_experiment('check');"
        "run = mlflow.start_run(); mlflow.log_text('kept', 'note.txt'); print(mlflow.get_artifact_uri())"
    )
    assert stack.inside("scheduler", "python", "-c", script).stdout.strip().startswith("mlflow-artifacts:")
    assert "note.txt" in stack.inside("mlflow", "find", "/mlflow", "-name", "note.txt").stdout
    query = [
        "psql",
        "--host=/tmp",
        "--username=postgres",
        "--tuples-only",
        "--command=SELECT count(*) FROM runs JOIN experiments USING (experiment_id) WHERE experiments.name = 'check'",
        "mlflow",
    ]
    assert stack.run("exec", "-T", "--user=999", "postgres", *query).stdout.strip() == "1"


def test_databases_take_their_own_owner_alone(stack):
    made = secrets_of(stack)
    for database, user, works in (
        ("airflow", "airflow", True),
        ("mlflow", "mlflow", True),
        ("airflow", "wrong", False),
    ):
        password = made.get(f"{user}_database_password", "wrong")
        done = stack.run(
            "exec", "-T", "--env", f"PGPASSWORD={password}", "postgres",
            "psql", "--host=postgres", f"--username={database}", "--command=SELECT 1", database, ok=False,
        )  # fmt: skip
        assert (done.returncode == 0) is works, done.stderr


def test_builder_lets_the_scheduler_build_and_push_to_the_registry(stack):
    registry = f"localhost:{stack.variables['LIFECYCLE_REGISTRY_PORT']}/check"
    script = (
        "import docker, io; engine = docker.DockerClient('tcp://builder:2375');"
        "context = io.BytesIO(b'FROM debian:bookworm-slim\\nLABEL a=b');"
        f"image, _ = engine.images.build(fileobj=context, tag='{registry}:1');"
        f"print(engine.images.push('{registry}', tag='1'));"
        "image.reload(); reference = image.attrs['RepoDigests'][0];"
        "print(engine.images.get_registry_data(reference).id)"
    )
    try:
        shown = stack.inside("scheduler", "python", "-c", script).stdout
    finally:
        docker("image", "rm", f"{registry}:1", ok=False)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", shown.splitlines()[-1])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/json"),
        ("POST", "/v1.41/containers/create"),
        ("POST", "/containers/x/start"),
        ("GET", "/images/../containers/json"),
        ("GET", "/images/%2e%2e/containers/json"),
        ("GET", "//containers/json"),
        ("POST", "/volumes/create"),
        ("POST", "/images/create?fromImage=x"),
        ("DELETE", "/images/debian:bookworm-slim"),
        ("POST", "/build?networkmode=host"),
        ("POST", "/build?a=b&networkmode=container:x"),
        ("POST", "/build?t=x&%6eetworkmode=host"),
        ("POST", "/session"),
        ("GET", "/images/x/get"),
    ],
)
def test_builder_refuses_everything_else(stack, method, path):
    script = (
        "import http.client; c = http.client.HTTPConnection('builder', 2375, timeout=20);"
        f"c.request('{method}', '{path}'); print(c.getresponse().status)"
    )
    assert stack.inside("scheduler", "python", "-c", script).stdout.strip() == "403"


def test_builder_is_out_of_reach_for_all_but_the_scheduler(stack):
    script = "import socket; socket.create_connection(('builder', 2375), timeout=5)"
    assert stack.inside("scheduler", "python", "-c", script, ok=False).returncode == 0
    assert stack.inside("minilake", "python", "-c", script, ok=False).returncode != 0


def test_no_secret_is_in_an_image_layer_a_container_definition_or_a_log(stack, image):
    made = secrets_of(stack)
    values = [value for key, value in made.items() if isinstance(value, str) and key != "airflow_user"]
    values += [key for kind in ("api_keys", "release_keys") for keys in made[kind].values() for key in keys.values()]
    containers = stack.run("ps", "--all", "--quiet").stdout.split()
    shown = {
        "definitions": docker("inspect", *containers).stdout,
        "history": docker("history", "--no-trunc", image).stdout,
        "logs": stack.run("logs", "--no-color").stdout,
    }
    assert [(place, value) for place, text in shown.items() for value in values if value in text] == []


def test_init_run_again_changes_no_secret(stack):
    before = secrets_of(stack)
    stack.run("run", "--rm", "init")
    assert secrets_of(stack) == before
    assert set(before) == set(init.Secrets.__struct_fields__)
