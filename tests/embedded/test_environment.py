"""The environment that the stack's processes get, its secrets, and what is checked before a start."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import psutil
import pytest
import requests

from embedded import __main__ as command_line
from embedded import airflow_components, preflight
from embedded.environment import APPROVAL_KEY_VARIABLE, ROOT, ConfigurationError, Stack
from lifecycle import settings
from training.signing.keys import listed, open_key


@pytest.fixture
def stack(tmp_path):
    foreign = {
        "KUBECONFIG": "/somewhere",
        "AIRFLOW__CORE__FERNET_KEY": "of another Airflow",
        "MLFLOW_TRACKING_URI": "http://elsewhere",
        "DATABRICKS_TOKEN": "of a real workspace",
        "PYTHONPATH": "/other/code",
    }
    kept = {"PATH": "/usr/bin", "HTTPS_PROXY": "http://proxy", "AIRFLOW_CONN_SMTP_DEFAULT": "smtp://localhost"}
    return Stack.read({"LIFECYCLE_HOME": str(tmp_path), **foreign, **kept})


def test_what_would_mislead_the_processes_is_not_taken_over_from_the_shell(stack):
    environment = stack.airflow_environment()
    assert "KUBECONFIG" not in environment
    assert "DATABRICKS_TOKEN" not in environment
    assert environment["AIRFLOW__CORE__FERNET_KEY"] != "of another Airflow"
    assert environment["MLFLOW_TRACKING_URI"] == stack.mlflow_url
    assert "/other/code" not in environment["PYTHONPATH"]
    assert environment["HTTPS_PROXY"] == "http://proxy"
    assert environment["AIRFLOW_CONN_SMTP_DEFAULT"] == "smtp://localhost"


def test_connections_name_every_place_and_their_types_decide_what_runs_there(stack):
    environment = stack.airflow_environment()
    prefix = "AIRFLOW_CONN_"
    ours = {name: json.loads(value) for name, value in environment.items() if name.startswith(prefix) and "{" in value}
    types = {name.removeprefix(prefix).lower(): connection["conn_type"] for name, connection in ours.items()}
    assert types == {
        "approval_key": "generic",
        "databricks_default": "databricks",
        "mlflow": "http",
        "airflow_api": "http",
        "registry": "fs",
        "logs": "fs",
        "events": "fs",
        "scoring_staging": "gunicorn",
        "scoring_production": "gunicorn",
    }
    assert {connection.get("host", "127.0.0.1") for connection in ours.values()} == {"127.0.0.1"}


def test_scoring_servers_get_no_secret_of_the_stack(stack):
    environment = stack.scoring_environment()
    secrets = json.loads((stack.home / "secrets" / "stack.json").read_text()) if stack.credentials else {}
    values = {value for value in secrets.values() if isinstance(value, str)}
    values |= set(secrets["api_keys"].values()) | set(secrets["release_keys"].values())
    values.discard(secrets["airflow_user"])
    assert not [name for name, value in environment.items() if any(secret in value for secret in values)]


def test_secrets_are_made_once_and_only_their_owner_reads_them(stack):
    first = stack.credentials
    assert stack.credentials == first
    files = list((stack.home / "secrets").iterdir())
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}
    hashes = json.loads((stack.home / "secrets" / "api-keys-production.json").read_text())
    keys = {"demo": first.api_keys["production"], "release": first.release_keys["production"]}
    assert hashes == {client: hashlib.sha256(key.encode()).hexdigest() for client, key in keys.items()}
    assert first.api_keys["staging"] != first.api_keys["production"]


def test_secrets_of_an_earlier_release_keep_their_values_and_get_the_releases_keys(stack):
    first = stack.credentials
    file = stack.home / "secrets" / "stack.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "release_keys"}))
    again = stack.credentials
    assert again.api_keys == first.api_keys
    hashes = json.loads((stack.home / "secrets" / "api-keys-staging.json").read_text())
    assert hashes["release"] == hashlib.sha256(again.release_keys["staging"].encode()).hexdigest()


def test_only_airflow_gets_the_key_that_signs_approvals_and_all_get_those_that_check_them(stack):
    ring = stack.approval_keys
    assert stack.approval_keys == ring, "made once"
    environments = {
        "airflow": stack.airflow_environment(), "mlflow": stack.mlflow_environment(),
        "minilake": stack.minilake_environment(), "scoring": stack.scoring_environment(), "shared": stack.environment(),
    }  # fmt: skip
    holders = {name for name, values in environments.items() if any(ring.private in value for value in values.values())}
    assert holders == {"airflow"}
    assert environments["shared"]["LIFECYCLE_APPROVAL_KEYS"] == ring.settings()


def test_keys_that_sign_are_made_once_lie_where_the_settings_say_and_no_environment_has_them(stack, monkeypatch):
    rings = stack.signing_keys
    assert stack.signing_keys == rings, "made once"
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    read = settings.read(ROOT / "config" / "embedded.toml").signing
    assert read.required
    for ring, place, keys in (
        (rings["bundle"], read.bundle_key, read.bundle_keys),
        (rings["image"], read.image_key, read.image_keys),
    ):
        assert keys == ring.public
        assert listed(open_key(place), keys, "any") == ring.public[-1]
        assert not [name for name, value in stack.airflow_environment().items() if ring.private in value]


def test_rotated_signing_keys_sign_and_the_earlier_ones_still_check(stack, monkeypatch, capsys):
    before = stack.signing_keys
    command_line._rotate_signing_keys(stack)
    after = stack.signing_keys
    assert before["image"].public == after["image"].public[:-1]
    assert after["image"].public[-1].id[:12] in capsys.readouterr().out
    signing = open_key(str(stack.signing_key_files["image"].with_suffix(".pem")))
    assert listed(signing, after["image"].public, "any") == after["image"].public[-1], "the file follows"


@pytest.mark.parametrize(("component", "keeps"), [("scheduler", True), ("api-server", False), ("triggerer", False)])
def test_of_airflows_components_only_the_one_that_runs_tasks_keeps_the_signing_key(monkeypatch, component, keeps):
    import airflow.__main__

    monkeypatch.setenv(APPROVAL_KEY_VARIABLE, "secret")
    monkeypatch.setattr(sys, "argv", [])
    seen = []
    monkeypatch.setattr(airflow.__main__, "main", lambda: seen.append(APPROVAL_KEY_VARIABLE in os.environ))
    airflow_components._airflow(["airflow", component])
    assert seen == [keeps]


def test_a_tasks_client_needs_no_certificates_of_its_own_once_they_were_read(monkeypatch):
    from airflow.sdk.api import client

    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "http://127.0.0.1/execution/")
    client.Client._get_ssl_context_cached.cache_clear()
    airflow_components._read_certificates()
    monkeypatch.setattr(client.ssl, "create_default_context", lambda **_: pytest.fail("read again"))
    client.Client(base_url="http://127.0.0.1/execution/", token="").close()


@pytest.mark.parametrize("value", ["http", "0", "70000", "-1"])
def test_port_that_is_none_is_refused_with_its_setting(tmp_path, value):
    with pytest.raises(ConfigurationError, match=r"LIFECYCLE_MLFLOW_PORT is .*: give a port number"):
        Stack.read({"LIFECYCLE_HOME": str(tmp_path), "LIFECYCLE_MLFLOW_PORT": value})


def test_two_parts_on_one_port_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="LIFECYCLE_MLFLOW_PORT, LIFECYCLE_STAGING_PORT name the same port"):
        Stack.read({"LIFECYCLE_HOME": str(tmp_path), "LIFECYCLE_MLFLOW_PORT": "9", "LIFECYCLE_STAGING_PORT": "9"})


def test_too_little_disk_is_one_line_that_says_what_to_do(stack, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * 2**20))
    with pytest.raises(preflight.PreflightError, match=r"100 MiB of disk are free at .*, \d+ are needed: make room"):
        preflight.check(stack)


def test_too_little_memory_is_one_line_that_says_what_to_do(stack, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=300 * 2**20))
    with pytest.raises(preflight.PreflightError, match="300 MiB of memory are available, 2500 are needed"):
        preflight.check(stack)


def test_parts_reach_each_other_without_the_proxy_of_the_shell(tmp_path):
    shell = {"LIFECYCLE_HOME": str(tmp_path), "HTTP_PROXY": "http://proxy", "NO_PROXY": "registry.example.com"}
    environment = Stack.read(shell).environment()
    for name in ("no_proxy", "NO_PROXY"):
        assert environment[name] == "registry.example.com,127.0.0.1,localhost"
    assert Stack.read({"LIFECYCLE_HOME": str(tmp_path)}).environment()["no_proxy"] == "127.0.0.1,localhost"


_ASKS = """
import os, sys, urllib.request
import httpx, requests
for name in sys.argv[1:]:
    url = f"http://{name}/"
    answers = [requests.get(url, timeout=5).text, httpx.get(url, timeout=5).text]
    answers.append(urllib.request.urlopen(url, timeout=5).read().decode())
    print(name, answers)
    assert answers == ["direct"] * 3, answers
"""


@pytest.mark.parametrize("excepted", [{}, {"NO_PROXY": "registry.example.com"}, {"no_proxy": "*"},
                                      {"no_proxy": "a.example.com", "NO_PROXY": "b.example.com, *"}])  # fmt: skip
def test_proxy_that_fails_everything_never_stands_before_the_stacks_own_loopback(tmp_path, answering, excepted):
    """With every variable that leads clients to a proxy, in either case, and each HTTP client that the parts use."""
    direct, proxy = answering("direct", 200), answering("proxy", 502)
    variables = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    led = {name: f"http://127.0.0.1:{proxy}" for upper in variables for name in (upper, upper.lower())}
    shell = {**os.environ, **led, **excepted, "LIFECYCLE_HOME": str(tmp_path)}
    names = [f"{host}:{direct}" for host in ("127.0.0.1", "localhost")]
    command = [sys.executable, "-c", _ASKS, *names]
    asked = subprocess.run(command, env=Stack.read(shell).environment(), capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0, asked.stdout + asked.stderr


def test_command_line_itself_asks_the_stack_without_the_proxy(tmp_path, monkeypatch):
    """``make demo`` and ``make status`` run in the caller's environment, not in that of the stack's processes."""
    for name, value in {"LIFECYCLE_HOME": str(tmp_path), "HTTP_PROXY": "http://proxy", "no_proxy": "", "NO_PROXY": "",
                        "USE_CASES": os.environ.get("USE_CASES", "")}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["embedded", "api-key", "production"])
    assert command_line.main() == 0
    assert requests.utils.should_bypass_proxies("http://127.0.0.1:8080", no_proxy=os.environ["no_proxy"])


@pytest.fixture
def answering():
    """Servers on free ports that give one text and status to every request: ``answering(text, status)``, its port."""
    opened = []

    def start(text, status):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *arguments):
                """Quiet."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        opened.append(server)
        return server.server_port

    yield start
    for server in opened:
        server.shutdown()
        server.server_close()
