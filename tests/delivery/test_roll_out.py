"""One roll-out sets image and DAG files together; the chart's values fit Airflow and the infrastructure."""

import functools
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from airflow.configuration import retrieve_configuration_description

from infrastructure.checks import configuration
from infrastructure.checks.configuration import plain, text

ROOT = Path(__file__).resolve().parents[2]
DELIVERY = ROOT / "delivery"
DIGEST = "sha256:" + "ab" * 32
COMMIT = "cd" * 20
URL = "https://example.com/lifecycle.git"
VALUES = yaml.safe_load((DELIVERY / "values.yaml").read_text())
# What the chart takes at the top, of what is used here: looked up in values.schema.json of 1.22.0.
CHART_KEYS = {
    "executor", "airflowVersion", "images", "data", "fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName",
    "postgresql", "redis", "statsd", "createUserJob", "triggerer", "labels", "dagProcessor", "env", "volumes",
    "volumeMounts", "config", "scheduler", "apiServer", "workers", "extraConfigMaps",
}  # fmt: skip


@functools.cache
def locals_():
    """What the infrastructure's root calls by a name of its own."""
    return configuration.read().root.locals()


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """Stand-ins for what the scripts call; each writes its arguments, a line for each call, into the file `calls`."""
    folder, calls = tmp_path / "programs", tmp_path / "calls"
    folder.mkdir()
    answers = {
        "docker": f'[ "$1" != inspect ] || echo "mine.azurecr.io/lifecycle-airflow@{DIGEST}"',
        "git": f'[ "$1" != rev-parse ] || echo {COMMIT}; [ "$1" != status ] || cat "$STATUS"',
        "helm": f'while [ $# -gt 0 ]; do [ "$1" != --values ] || cp "$2" {tmp_path}/place.yaml; shift; done',
    }
    for name in ("docker", "git", "helm", "kubectl", "kubelogin", "az", "trivy"):
        script = f'#!/bin/sh\nprintf "%s " {name} "$@" >>{calls}; echo >>{calls}\n{answers.get(name, ":")}\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    (tmp_path / "status").write_text("")
    monkeypatch.setenv("STATUS", str(tmp_path / "status"))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("TRIVY", "trivy")
    return calls


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DELIVERY / script, *arguments], capture_output=True, text=True)


def test_image_and_dag_files_are_set_by_one_call(programs, tmp_path):
    place = tmp_path / "given.yaml"
    place.write_text("{}")
    done = run("roll_out.sh", f"mine.azurecr.io/lifecycle-airflow@{DIGEST}", COMMIT, URL, str(place))
    assert done.returncode == 0, done.stderr
    helm, kubectl = programs.read_text().splitlines()
    bundle = "dagProcessor.dagBundleConfigList[0].kwargs"
    assert (
        f"images.airflow.repository=mine.azurecr.io/lifecycle-airflow --set-string images.airflow.digest={DIGEST} "
        in helm
    )
    assert f"{bundle}.tracking_ref={COMMIT} --set-string {bundle}.repo_url={URL} " in helm
    # Task pods too: the chart puts a colon between the two.
    task = dict(re.findall(r"images\.pod_template\.(repository|tag)=(\S+)", helm))
    assert f"{task['repository']}:{task['tag']}" == f"mine.azurecr.io/lifecycle-airflow@{DIGEST}"
    assert "rollout status" in kubectl


@pytest.mark.parametrize(
    ("image", "commit", "says"),
    [
        ("mine.azurecr.io/lifecycle-airflow:latest", COMMIT, "names no digest"),
        (f"mine.azurecr.io/lifecycle-airflow@{DIGEST}", "main", "is not a commit"),
        (f"mine.azurecr.io/lifecycle-airflow@{DIGEST}", COMMIT[:12], "is not a commit"),
    ],
)
def test_what_may_change_its_meaning_is_refused(programs, image, commit, says):
    done = run("roll_out.sh", image, commit, URL, "place.yaml")
    assert done.returncode == 2
    assert says in done.stderr
    assert not programs.exists()


def test_pipeline_pushes_and_rolls_the_pushed_digest_out(programs, tmp_path, monkeypatch):
    place = "scheduler:\n  serviceAccount: {}"
    given = {
        "REGISTRY": "mine.azurecr.io",
        "CLUSTER": "prod",
        "GROUP": "serving",
        "REPOSITORY": URL,
        "AIRFLOW_VALUES": place,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    done = run("deliver.sh", COMMIT)
    assert done.returncode == 0, done.stderr
    assert f"pushed mine.azurecr.io/lifecycle-airflow@{DIGEST}" in done.stdout
    calls = programs.read_text().splitlines()
    assert [line.split()[0] for line in calls] == [
        "az",
        "docker",
        "docker",
        "docker",
        "az",
        "kubelogin",
        "helm",
        "kubectl",
    ]
    assert calls[0].strip() == "az acr login --only-show-errors --name mine"
    assert f"images.airflow.digest={DIGEST}" in calls[6]
    assert (tmp_path / "place.yaml").read_text() == place + "\n"


def test_image_is_of_one_commit_and_scanned(programs, tmp_path):
    assert run("image.sh", "build", "one").returncode == 0
    assert f"--build-arg REVISION={COMMIT} --tag lifecycle-airflow:one ." in programs.read_text()
    assert run("image.sh", "scan", "one", str(tmp_path / "report")).returncode == 0
    last = programs.read_text().splitlines()[-1]
    assert "--severity HIGH,CRITICAL --ignore-unfixed" in last
    assert "--exit-code 1" in last
    (tmp_path / "status").write_text(" M plugins/lifecycle/settings.py\n")
    refused = run("image.sh", "build", "two")
    assert refused.returncode == 2
    assert "changes that are not committed" in refused.stderr


def place() -> dict[str, object]:
    """The second values file, as `tofu output -raw airflow_values` prints it."""
    call = configuration.read().root.of("output")["airflow_values"].body["value"]
    values = {
        "airflow": "airflow",
        "triggerer": "triggerer",
        "workers": "workers",
        "airflow_url": "https://airflow.example.com",
        "vault": '{"vault_url": "https://one"}',
        "workers_vault": '{"vault_url": "https://other"}',
        "settings": '"settings.toml": |\n  environment = "small"\n',
    }
    template = (ROOT / "infrastructure" / "airflow.yaml").read_text()
    assert set(re.findall(r"jsonencode\((\w+)\)", template)) == values.keys()
    assert [name for name in values if not re.search(rf"\b{name}\s*[=:]", call)] == []
    return yaml.safe_load(re.sub(r"\$\{jsonencode\((\w+)\)\}", lambda found: json.dumps(values[found[1]]), template))


def test_values_are_what_the_chart_takes():
    assert VALUES.keys() | place().keys() <= CHART_KEYS
    assert VALUES["executor"] == "KubernetesExecutor"
    assert not VALUES["postgresql"]["enabled"]


def test_every_option_of_airflow_that_the_values_set_exists():
    known = retrieve_configuration_description(include_providers=True)
    for values in (VALUES, place()):
        for section, options in values["config"].items():
            assert options.keys() <= known[section]["options"].keys(), section


def test_service_accounts_have_the_identities_that_the_infrastructure_federates():
    accounts = {
        name: [text(account) for account in found] for name, found in plain(locals_()["airflow_accounts"]).items()
    }
    spelled = {"apiServer": "api-server", "dagProcessor": "dag-processor", "workers": "worker"}
    given: dict[str, list[str]] = {}
    for component, body in place().items():
        if isinstance(body, dict) and "serviceAccount" in body:
            who = body["serviceAccount"]["annotations"]["azure.workload.identity/client-id"]
            given.setdefault(who, []).append(f"airflow-{spelled.get(component, component)}")
    assert {who: sorted(names) for who, names in given.items()} == {
        who: sorted(names) for who, names in accounts.items()
    }
    assert VALUES["labels"] == {"azure.workload.identity/use": "true"}
    assert text(locals_()["airflow_namespace"]) == "airflow"
    assert "NAMESPACE=airflow\n" in (DELIVERY / "roll_out.sh").read_text()


def test_settings_lie_where_airflow_looks_for_them():
    (variable,) = [one for one in VALUES["env"] if one["name"].startswith("LIFECYCLE_")]
    (mount,) = VALUES["volumeMounts"]
    (name,) = place()["extraConfigMaps"]
    (file,) = yaml.safe_load(place()["extraConfigMaps"][name]["data"])
    assert variable == {"name": "LIFECYCLE_SETTINGS", "value": f"{mount['mountPath']}/{file}"}
    assert VALUES["volumes"] == [{"name": mount["name"], "configMap": {"name": name}}]


def test_triggerer_waits_for_events_as_the_page_says_and_shorter_than_the_queue_does():
    said = dict(re.findall(r"AIRFLOW__TRIGGERER__(\w+)=(\d+)", (ROOT / "docs" / "events.md").read_text()))
    given = VALUES["config"]["triggerer"]
    assert given == {name.lower(): value for name, value in said.items()}
    (queue,) = [one for one in configuration.read().resources() if one.kind == "azurerm_servicebus_queue"]
    minutes = re.fullmatch(r"PT(\d+)M", text(queue.body["lock_duration"]))[1]
    assert int(given["shared_stream_ack_timeout"]) < 60 * int(minutes)


def test_task_logs_go_into_the_container_that_is_made():
    made = text(plain(locals_()["containers"])["task_logs"])
    assert VALUES["config"]["azure_remote_logging"]["remote_wasb_log_container"] == made


def test_task_pods_take_the_image_of_their_template():
    """With the chart's own settings they would run a tag of their own, whatever digest was rolled out."""
    executor = VALUES["config"]["kubernetes_executor"]
    assert (executor["worker_container_repository"], executor["worker_container_tag"]) == ("", "")


def test_workers_alone_read_the_vault_of_the_approval_key():
    config = place()["config"]
    assert json.loads(config["workers"]["secrets_backend_kwargs"]) == {"vault_url": "https://other"}
    assert json.loads(config["secrets"]["backend_kwargs"]) == {"vault_url": "https://one"}
