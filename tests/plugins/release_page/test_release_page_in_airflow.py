"""The page Releases inside a real Airflow API server: in the menu, and for those who are logged in only."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import requests

from tests.support.machine import free_port

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def listener():
    """Somebody's server in the place of the API, and the requests that it got."""
    got = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            got.append((self.path, self.headers["Authorization"]))
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield SimpleNamespace(port=server.server_port, got=got)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def airflow(mlflow_server, listener, tmp_path_factory):
    """An API server on SQLite with our plugins; its address and a token of its user."""
    home, port = tmp_path_factory.mktemp("airflow"), free_port()
    # Below a path, as behind a proxy that many tools share.
    url = f"http://127.0.0.1:{port}/tools"
    host, mlflow_port = mlflow_server.removeprefix("http://").split(":")
    (home / "passwords.json").write_text('{"rita": "secret"}')
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "rita:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API_AUTH__JWT_SECRET": "j" * 64,
        "AIRFLOW__API__SECRET_KEY": "s" * 32,
        "AIRFLOW_CONN_MLFLOW": json.dumps({"conn_type": "http", "host": host, "port": int(mlflow_port)}),
        "AIRFLOW_CONN_AIRFLOW_API": json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": listener.port}),
    }
    command = [sys.executable, "-m", "airflow"]
    subprocess.run([*command, "db", "migrate"], env=environment, check=True, capture_output=True, timeout=240)
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "api-server"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        deadline = time.monotonic() + 180
        try:
            while True:
                assert server.poll() is None, (home / "server.log").read_text()
                assert time.monotonic() < deadline, "Airflow did not answer within 180 s"
                try:
                    if requests.get(f"{url}/api/v2/version", timeout=5).ok:
                        break
                except requests.ConnectionError:
                    time.sleep(0.5)
            answer = requests.post(f"{url}/auth/token", json={"username": "rita", "password": "secret"}, timeout=20)
            token = answer.json()["access_token"]
            yield SimpleNamespace(url=url, token=token)
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def test_page_is_in_airflows_menu(airflow):
    headers = {"Authorization": f"Bearer {airflow.token}"}
    plugins = requests.get(f"{airflow.url}/api/v2/plugins", headers=headers, timeout=20)
    views = [view for plugin in plugins.json()["plugins"] for view in plugin["external_views"]]
    assert "Releases" in [view["name"] for view in views], "in one word: Airflow's menu cuts what is longer"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer forged"}], ids=["no login", "forged token"])
def test_page_is_refused_without_a_valid_login(airflow, headers):
    answer = requests.get(f"{airflow.url}/lifecycle/releases", headers=headers, timeout=20)
    assert answer.status_code in (401, 403)
    assert "What runs where" not in answer.text


@pytest.mark.parametrize("by", ["header", "cookie"])
def test_page_answers_whoever_is_logged_in_from_mlflow_and_airflow(airflow, listener, by):
    given = {"headers": {"Authorization": f"Bearer {airflow.token}"}} if by == "header" else {}
    cookies = {"_token": airflow.token} if by == "cookie" else {}
    answer = requests.get(f"{airflow.url}/lifecycle/releases", cookies=cookies, timeout=60, **given)
    assert answer.status_code == 200, answer.text
    assert "No model has been trained yet" in answer.text
    assert "cannot be read" not in answer.text
    assert listener.got == [], "a reader's token goes to no address that a connection names"
