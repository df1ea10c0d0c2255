"""From ``log-export`` through Azurite, as the compose file starts it, to the source that the nightly run reads.

``make test-azurite``. Only the Kubernetes API is a server of these tests.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
import yaml

from compose import init
from embedded.emulators.container_log import CONTAINER
from lifecycle.hooks.log_storage import open_source
from tests.support.machine import eventually, free_ports
from tests.support.pod_logs import LINES

pytestmark = pytest.mark.azurite
ROOT = Path(__file__).resolve().parents[2]
DAY = date(2026, 11, 2)
EXPORTER = """
import sys
from pathlib import Path
from compose import log_export

log_export.KUBECONFIGS = Path(sys.argv[1])
log_export.main()
"""


@contextmanager
def running(command, **variables):
    process = subprocess.Popen(command, env={**os.environ, **variables}, cwd=ROOT, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def secrets():
    return init.make_secrets()


@pytest.fixture
def storage(tmp_path, secrets, monkeypatch):
    """Azurite by the compose file's own command and health check; connection ``logs`` as ``init`` makes it."""
    program = os.environ.get("AZURITE")
    assert program, "Azurite is not installed: make test-azurite installs it"
    port, accounts, data = free_ports(1)[0], tmp_path / "accounts", tmp_path / "data"
    accounts.write_text(init.files(secrets)["storage/accounts"][1])
    service = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["azurite"]
    here = {
        "$$": "$",
        "/run/lifecycle/accounts": str(accounts),
        "--blobHost 0.0.0.0": f"--blobHost 127.0.0.1 --blobPort {port}",
        "/data": str(data),
        "(10000)": f"({port})",
    }

    def translated(words):
        for said, meant in here.items():
            words = [word.replace(said, meant) for word in words]
        return words

    path = f"{Path(program).absolute().parent}{os.pathsep}{os.environ['PATH']}"
    with running(translated(service["command"]), PATH=path) as azurite:
        check = translated(service["healthcheck"]["test"][1:])
        assert eventually(
            lambda: azurite.poll() is None and subprocess.run(check, stderr=subprocess.DEVNULL).returncode == 0
        )
        logs = init.airflow_environment(secrets)["AIRFLOW_CONN_LOGS"].replace("azurite:10000", f"127.0.0.1:{port}")
        monkeypatch.setenv("AIRFLOW_CONN_LOGS", logs)
        yield logs


@pytest.fixture
def kubeconfigs(tmp_path, cluster):
    """As ``cluster.sh`` leaves them, for the tests' server."""
    folder = tmp_path / "kube"
    folder.mkdir()
    for target in ("staging", "production"):
        contexts = [{"name": target, "context": {"cluster": target, "user": "airflow"}}]
        contexts += [
            {"name": namespace, "context": {"cluster": target, "user": "airflow", "namespace": namespace}}
            for namespace in (f"first-{target}", f"second-{target}")
        ]
        (folder / target).write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": target,
            "clusters": [{"name": target, "cluster": {"server": f"http://127.0.0.1:{cluster.server_port}"}}],
            "users": [{"name": "airflow", "user": {"token": "t"}}],
            "contexts": contexts,
        }))  # fmt: skip
    return folder


def test_lines_of_pods_come_through_azurite_to_the_nightly_run(storage, kubeconfigs):
    def exported():
        source = open_source(CONTAINER)
        content = [b"".join(source.read(blob.name, 0, blob.size)) for blob in source.blobs(DAY)]
        return [json.loads(line) for line in b"".join(content).splitlines()]

    with running([sys.executable, "-c", EXPORTER, str(kubeconfigs)], PYTHONPATH=str(ROOT)) as exporter:
        assert eventually(lambda: exporter.poll() is not None or written(exported) >= 2 * len(LINES), 60)
        assert exporter.poll() is None
    messages = [{"type": "InputData", "level": "info"}, "plain WARNING text", '{"half']
    for namespace in ("first-production", "second-production"):
        found = [record["LogMessage"] for record in exported() if record["PodNamespace"] == namespace]
        assert found[:3] == messages
    with running([sys.executable, "-c", EXPORTER, str(kubeconfigs)], PYTHONPATH=str(ROOT)) as again:
        assert eventually(lambda: written(exported) > 2 * len(LINES) or again.poll() is not None, 60)
        assert again.poll() is None, "a container that is there already is not a fault"


def written(exported):
    """How many lines have arrived; none where the container has not been made."""
    try:
        return len(exported())
    except ValueError:
        return 0
