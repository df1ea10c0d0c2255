"""The compose file: no secret, loopback only, hardened, pinned, and connected as the DAGs ask."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from airflow.models.connection import Connection

from compose import init
from lifecycle import builders, settings
from lifecycle.events import assets, feeds
from lifecycle.hooks import image_registry
from training import use_case
from training.signing.keys import private_of_pem, public_text

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yaml"
ONE_SHOT = {"init", "migrate", "cluster"}
CONNECTIONS = {
    "databricks_default", "mlflow", "registry", "scoring_staging", "scoring_production", "logs", "airflow_api",
    "approval_key", "events",
}  # fmt: skip


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(FILE.read_text())["services"]


@pytest.fixture(scope="module")
def airflow(services):
    """The environment of an Airflow component."""
    return services["scheduler"]["environment"]


def test_compose_file_can_be_read_in_one_sitting():
    assert len(FILE.read_text().splitlines()) < 200


def test_guide_names_every_variable_that_the_compose_files_read():
    files = (FILE, ROOT / "compose" / "own-cluster.yaml")
    read = {name for file in files for name in re.findall(r"\$\{(\w+)", file.read_text())}
    guide = (ROOT / "compose" / "README.md").read_text()
    assert {name for name in read if name not in guide} == set()


def test_every_port_is_on_loopback(services):
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_pages_of_job_runs_are_named_as_a_browser_of_this_machine_knows_them(services):
    """The link beside a task named the workspace as the containers know it."""
    minilake = services["minilake"]
    seen, inside = (minilake["environment"][name] for name in ("MINILAKE_PAGES", "MINILAKE_PORT"))
    assert minilake["ports"] == [f"{seen}:{inside}"]
    # In a process of its own: MiniLake's import warns.
    asked = "from embedded.emulators.minilake import page; print(page.address('minilake:18000', 7))"
    environ = os.environ | {"MINILAKE_PAGES": "127.0.0.1:18001", "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", asked], env=environ, capture_output=True, text=True, check=True).stdout
    assert told.startswith("http://127.0.0.1:18001/run/7?key=")


def test_every_image_that_is_pulled_has_a_version(services):
    pulled = {service["image"] for service in services.values()} - {"lifecycle-stack"}
    assert len(pulled) == 6
    assert [image for image in pulled if not re.search(r":v?\d+\.\d+", image)] == []


def test_what_keeps_running_has_a_health_check_and_comes_back(services):
    staying = {name: service for name, service in services.items() if name not in ONE_SHOT}
    # The exporter ends when anything is wrong with it, and is started again.
    assert [name for name, service in staying.items() if "healthcheck" not in service] == ["log-export"]
    assert {service["restart"] for service in staying.values()} == {"unless-stopped"}


def test_our_containers_have_no_capability_and_a_read_only_root(services):
    ours = {name: service for name, service in services.items() if service["image"] == "lifecycle-stack"}
    assert set(ours) >= {"init", "api-server", "scheduler", "dag-processor", "triggerer", "mlflow", "minilake"}
    assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in ours.values())
    assert [name for name, service in ours.items() if "cap_add" in service or "user" in service] == ["init"]


def test_only_the_builder_sees_the_engine_and_only_the_scheduler_sees_the_builder(services):
    with_socket = [
        name for name, service in services.items() if any("docker.sock" in str(v) for v in service.get("volumes", []))
    ]
    assert with_socket == ["builder"]
    assert [name for name, service in services.items() if "build" in service.get("networks", [])] == [
        "scheduler",
        "builder",
    ]


def test_only_the_service_that_runs_tasks_has_the_key_that_signs_approvals(services):
    holders = {name for name, service in services.items() if "secrets-approval" in str(service.get("volumes"))}
    assert holders == {"init", "scheduler"}
    assert "/run/approval/" in services["scheduler"]["environment"]["LIFECYCLE_SECRETS"]


def test_each_key_that_signs_lies_where_the_settings_say_in_the_one_service_that_uses_it(services, monkeypatch):
    made = init.make_secrets()
    for name, value in {**init.public_keys(made), "BASE_IMAGE": "python"}.items():
        monkeypatch.setenv(name, value)
    signing = settings.read(ROOT / "config" / "compose.toml").signing
    held = init.files(made)
    for place, holder, volume, keys in (
        (signing.bundle_key, "minilake", "secrets-minilake", signing.bundle_keys),
        (signing.image_key, "scheduler", "secrets-approval", signing.image_keys),
    ):
        mounted = {name: found for name, service in services.items() for found in service.get("volumes", ())
                   if str(found).startswith(f"{volume}:") and name != "init"}  # fmt: skip
        assert list(mounted) == [holder]
        folder = mounted[holder].split(":")[1]
        assert place.startswith(f"{folder}/")
        owner, pem = held[place.replace(folder, volume.removeprefix("secrets-"))]
        assert owner == init.APP
        assert public_text(private_of_pem(pem).public_key()) == keys[-1].public


def test_workers_ask_the_registry_that_the_engine_pushes_to_by_its_name_here(airflow, services):
    text = re.sub(r"\$\{\w+:-([\w-]+)\}", r"\1", airflow["AIRFLOW_CONN_REGISTRY"])
    connection = Connection(conn_id="registry", **json.loads(text))
    assert image_registry.server(connection) == "localhost:5001"
    assert image_registry.api(connection) == "http://registry:5000"
    assert services["registry"]["ports"][0].endswith(":5000")
    assert "default" in services["scheduler"]["networks"]


def test_only_k3s_is_privileged(services):
    assert [name for name, service in services.items() if service.get("privileged")] == ["k3s"]


def test_no_environment_holds_a_secret(services):
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|FERNET|ACCOUNT_KEY|_KEY$")
    said = {
        f"{name}.{key}": str(value)
        for name, service in services.items()
        for key, value in service.get("environment", {}).items()
        if secret.search(key)
    }
    assert said
    assert {key: value for key, value in said.items() if not value.startswith("/run/lifecycle/")} == {}
    connections = [
        json.loads(re.sub(r"\$\{\w+:-([\w-]+)\}", r"\1", value))
        for service in services.values()
        for key, value in service.get("environment", {}).items()
        if key.startswith("AIRFLOW_CONN_")
    ]
    assert connections
    assert [connection for connection in connections if "password" in connection] == []


def test_airflow_has_exactly_the_connections_of_the_dags(airflow):
    files = init.files(init.make_secrets())
    named = [
        *airflow,
        *(name for service in ("airflow", "approval") for name in json.loads(files[f"{service}/environment.json"][1])),
    ]
    found = [name.removeprefix("AIRFLOW_CONN_").lower() for name in named if name.startswith("AIRFLOW_CONN_")]
    assert sorted(found) == sorted(CONNECTIONS)


def test_connections_have_types_that_the_operators_know(airflow):
    kinds = {
        name: json.loads(re.sub(r"\$\{\w+:-([\w-]+)\}", r"\1", value))["conn_type"]
        for name, value in {**airflow, **init.airflow_environment(init.make_secrets())}.items()
        if name.startswith("AIRFLOW_CONN_")
    }
    assert kinds["AIRFLOW_CONN_REGISTRY"] in builders._BUILDERS
    assert kinds["AIRFLOW_CONN_SCORING_STAGING"] == kinds["AIRFLOW_CONN_SCORING_PRODUCTION"] == "kubernetes"
    assert kinds["AIRFLOW_CONN_LOGS"] == "wasb"
    assert kinds["AIRFLOW_CONN_EVENTS"] == "fs"


def test_what_watches_new_files_sweeps_them_and_reads_them_has_their_folder(services, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_SETTINGS", str(ROOT / "config" / "compose.toml"))
    monkeypatch.setenv("BASE_IMAGE", "python:3.11-slim")
    monkeypatch.setattr(settings, "load", settings.load.__wrapped__)
    for one in use_case.load_all()[0]:
        (asset,) = assets.watched(one)
        assert len(asset.watchers) == 1
        assert feeds.folders(one) == {"data": f"/data/bronze/{one.name}"}
        assert settings.load().of(one).start_on_data == ("train",)
    with_data = {name for name, service in services.items() if "data:/data" in service.get("volumes", [])}
    assert with_data >= {"triggerer", "scheduler", "minilake"}


def test_published_ports_are_those_that_init_gives_to_use_cases(services):
    (published,) = services["k3s"]["ports"]
    host, _, cluster = published.removeprefix("127.0.0.1:").rpartition(":")
    first, last = map(int, cluster.split("-"))
    assert (first, last - first + 1) == (init.FIRST_NODE_PORT, init.NODE_PORTS)
    default = re.fullmatch(r"\$\{LIFECYCLE_SCORING_PORTS:-(\d+)-(\d+)\}", host)
    assert int(default[2]) - int(default[1]) + 1 == init.NODE_PORTS
    assert 30000 <= first <= last <= 32767, "Kubernetes' range of NodePorts"


def test_what_reads_use_cases_has_the_folder_of_ones_own(services):
    with_folder = {
        name
        for name, service in services.items()
        if any(volume.endswith(":/use_cases:ro") for volume in service.get("volumes", []))
    }
    assert with_folder == {
        name for name, service in services.items() if service.get("environment", {}).get("USE_CASES") == "/use_cases"
    }
    assert with_folder >= {"init", "scheduler", "dag-processor", "triggerer", "api-server"}


def test_compose_files_name_no_use_case():
    files = [FILE, *(path for path in (ROOT / "compose").iterdir() if path.suffix not in (".md", ".txt", ".pyc"))]
    texts = {path.name: path.read_text().lower() for path in files if path.is_file()}
    assert [(name, file) for name in use_case.names() for file, text in texts.items() if name in text] == []


def test_every_named_volume_is_used_and_every_used_one_is_named(services):
    named = set(yaml.safe_load(FILE.read_text())["volumes"])
    used = {
        volume.partition(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume[0] not in "./$"
    }
    assert used == named


def test_requirements_of_the_image_are_those_that_the_tests_run_with():
    def pins(path):
        return dict(re.findall(r"^([\w.\[\]-]+)==(\S+)", path.read_text(), flags=re.MULTILINE))

    ours, tested = pins(ROOT / "compose" / "requirements.txt"), pins(ROOT / "requirements.txt")
    assert "apache-airflow" in ours
    assert {name: version for name, version in ours.items() if tested.get(name) != version} == {}
