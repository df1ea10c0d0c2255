"""compose/builder.cfg on a real haproxy, before an engine that reads parameters as Docker's does.

Docker's engine asks Go's ``FormValue``, which decodes names and takes parameters of the query and of a form alike.
"""

import http.client
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import docker
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.machine import free_port

pytestmark = pytest.mark.tools("haproxy")
CONFIGURATION = Path(__file__).resolve().parents[2] / "compose" / "builder.cfg"
TAR = {"Content-Type": "application/tar"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BUILD = "/v1.41/build?t=localhost%3A5001%2Fa%3Av1&q=False&nocache=False&rm=True&forcerm=True&pull=False"


class Engine(BaseHTTPRequestHandler):
    """Notes what it would have built with, and answers everything."""

    asked: list[dict[str, list[str]]]

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("latin-1")
        parameters = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if (self.headers.get("Content-Type") or "").startswith(FORM["Content-Type"]):
            parameters |= parse_qs(body, keep_blank_values=True)
        self.asked.append(parameters)
        content = b'{"ApiVersion": "1.41"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def log_message(self, *_: object) -> None:
        """A test needs no log of it."""

    def address_string(self) -> str:
        return "a socket"


@pytest.fixture(scope="module")
def proxy():
    """The proxy's port, and what the engine was asked for."""
    folder = Path(tempfile.mkdtemp(prefix="proxy-", dir="/tmp"))  # the path of a socket has 108 characters at most
    asked: list[dict[str, list[str]]] = []
    handler = type("Handler", (Engine,), {"asked": asked})
    engine = socketserver.ThreadingUnixStreamServer(str(folder / "engine"), handler)
    threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    port = free_port()
    text = CONFIGURATION.read_text().replace("bind :2375", f"bind 127.0.0.1:{port}")
    (folder / "builder.cfg").write_text(text.replace("/var/run/docker.sock", str(folder / "engine")))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["haproxy", "-db", "-f", folder / "builder.cfg"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "haproxy did not listen within 30 s"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield SimpleNamespace(port=port, asked=asked)
    finally:
        process.terminate()
        process.wait(10)
        engine.shutdown()
        engine.server_close()
        shutil.rmtree(folder)


def ask(proxy, method, path, headers=TAR, body=None):
    """The status, and the parameters as the engine read them; ``None`` where it was not asked."""
    proxy.asked.clear()
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    connection.request(method, path, body, headers)
    status = connection.getresponse().status
    connection.close()
    return status, proxy.asked[0] if proxy.asked else None


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("/build?t=x&networkmode=host", TAR, None),
        ("/build?t=x&%6eetworkmode=host", TAR, None),
        ("/v1.50/build?networkmod%65=container%3Ax", TAR, None),
        ("/build?t=x", FORM, "networkmode=host"),
        ("/build", FORM, "networkmode=host"),
        ("/build?t=x", {"Content-Type": "multipart/form-data; boundary=x"}, "--x--"),
        ("/build?t=x", {}, None),
        ("/build?t=x;networkmode=host", TAR, None),
        ("/build?t=x&networkmode", TAR, None),
        ("/build?remote=http%3A%2F%2Fexample.com%2FDockerfile", TAR, None),
        ("/build?t=x&extrahosts=a%3A10.0.0.1", TAR, None),
        ("/build?t=x&version=2&session=1", TAR, None),
        ("/build?t=x&dockerfile=another", TAR, None),
        ("/build?t=x&rm=perhaps", TAR, None),
        ("/images/x/push?tag=1&networkmode=host", {}, None),
    ],
)
def test_what_a_build_may_not_ask_for_never_reaches_the_engine(proxy, path, headers, body):
    assert ask(proxy, "POST", path, headers, body) == (403, None)


def test_what_the_builder_asks_for_reaches_the_engine(proxy, tmp_path):
    dockerfile = tmp_path / "serving" / "Dockerfile"
    dockerfile.parent.mkdir()
    dockerfile.write_text("FROM scratch\n")
    engine = docker.DockerClient(base_url=f"tcp://127.0.0.1:{proxy.port}", version="1.41")
    proxy.asked.clear()
    arguments = {"BASE_IMAGE": "python:3.11-slim", "MODEL_NAME": "a & b; c=d"}
    answers = engine.api.build(
        path=str(tmp_path), dockerfile="serving/Dockerfile", tag="localhost:5001/a:v1", rm=True, forcerm=True,
        decode=True, buildargs=arguments, labels={"lifecycle.inputs": "ab"},
    )  # fmt: skip
    assert list(answers)
    engine.images.client.api.images(filters={"label": "lifecycle.inputs=ab"})
    engine.api.tag("localhost:5001/a:v1", "localhost:5001/a", tag="v2")
    assert engine.api.inspect_image("localhost:5001/a@sha256:" + "ab" * 32)
    engine.close()
    asked_for, listed, tagged, inspected = proxy.asked
    assert set(asked_for) == {"t", "q", "nocache", "rm", "forcerm", "pull", "dockerfile", "buildargs", "labels"}
    assert asked_for["buildargs"] == ['{"BASE_IMAGE": "python:3.11-slim", "MODEL_NAME": "a & b; c=d"}']
    assert (set(listed), set(tagged), inspected) == ({"only_ids", "all", "filters"}, {"repo", "tag", "force"}, {})


NAMES = st.sampled_from(["networkmode", "remote", "extrahosts", "cachefrom", "cgroupparent", "platform", "t", "rm"])


@st.composite
def spelt(draw):
    """A parameter's name, with any of its letters in the escaped form or in the other case."""
    forms = [st.sampled_from([letter, f"%{ord(letter):02x}", letter.upper()]) for letter in draw(NAMES)]
    return "".join(draw(form) for form in forms)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=spelt(), value=st.sampled_from(["host", "1", "", "container%3Ax", "%00"]), joint=st.sampled_from("&;"))
def test_whatever_the_spelling_the_engine_reads_listed_parameters_alone(proxy, name, value, joint):
    listed = {"t", "q", "nocache", "rm", "forcerm", "pull", "dockerfile", "buildargs", "labels"}
    status, read = ask(proxy, "POST", f"{BUILD}{joint}{name}={value}")
    assert (status, read) == (403, None) or set(read) <= listed
