"""A double of Azure Container Instances, as Azure's own client asks it, and a hook that leads there."""

import functools
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from airflow.providers.microsoft.azure.hooks.container_instance import AzureContainerInstanceHook

from lifecycle.operators import group_step
from lifecycle.operators.group_step import MARK

GROUP = re.compile(
    r"/resourceGroups/[^/]+/providers/Microsoft.ContainerInstance/containerGroups"
    r"(/(?P<name>[^/?]+))?(/containers/(?P<container>[^/]+)/logs)?"
)


PLACE = {"resource_group": "qa", "region": "westeurope", "pull_identity": "/subscriptions/s/uami"}
"""The extra of connection ``scoring_qa``."""


def report(**checks: bool) -> dict[str, Any]:
    """What a verification of an image found."""
    golden = "5 answers within 1e-06 of the registered model's"
    found = [{"name": name, "passed": passed, "detail": "seen"} for name, passed in (checks or {"ready": True}).items()]
    found.append({"name": "golden answers", "passed": checks.get("golden", True), "detail": golden})
    return {"passed": all(checks.values()), "seconds": 7.25, "checks": found, "requests": 3, "errors": 0}


def printed(found: dict[str, Any]) -> str:
    """A verifier's output that ends in its report."""
    return f"ok ready: seen\n\n{MARK}\n{json.dumps(found)}"


class Killed(BaseException):
    """The worker's process is gone: nothing of it runs any more."""


@dataclass
class ContainerInstances:
    """The groups of one subscription."""

    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Method and group, in order."""
    states: dict[str, str] = field(default_factory=lambda: {"server": "Running", "verifier": "Terminated"})
    provisioning: str = "Succeeded"
    output: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, str]] = field(default_factory=list)
    refuse: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """Method to status, code and message."""
    before: Callable[[str, str], None] = lambda method, name: None
    """Called before each request is answered."""
    port: int = 0

    def made(self) -> list[str]:
        """Groups that were asked for, in order."""
        return [name for method, name in self.calls if method == "PUT"]

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        found = GROUP.search(path)
        assert found, path
        name = found["name"] or ""
        self.calls.append((method, name))
        self.before(method, name)
        if refused := self.refuse.get(method):
            status, code, message = refused
            return status, {"error": {"code": code, "message": message}}
        if method == "PUT":
            body["properties"]["provisioningState"] = "Pending"
            self.groups[name] = {"id": path, "name": name, **body}
            return 201, self.groups[name]
        if method == "DELETE":
            return (200, {}) if self.groups.pop(name, None) else (204, None)
        if not name:
            return 200, {"value": list(self.groups.values())}
        if name not in self.groups:
            return 404, {"error": {"code": "ResourceNotFound", "message": f"{name} was not found"}}
        return 200, {"content": self.output.get(found["container"], "")} if found["container"] else self._seen(name)

    def _seen(self, name: str) -> dict[str, Any]:
        group: dict[str, Any] = json.loads(json.dumps(self.groups[name]))
        group["properties"]["provisioningState"] = self.provisioning
        for container in group["properties"]["containers"]:
            state = {"state": self.states[container["name"]]}
            container["properties"]["instanceView"] = {"currentState": state, "events": self.events}
            for variable in container["properties"].get("environmentVariables", []):
                variable.pop("secureValue", None)
        return group


@contextmanager
def running() -> Iterator[ContainerInstances]:
    """The double, on a port of this machine."""
    double = ContainerInstances()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            """Tests look at ``calls``."""

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            status, found = double.answer(self.command, self.path, body)
            content = json.dumps(found).encode() if found is not None else b""
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_DELETE = _answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    double.port = server.server_address[1]
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def client(port: int) -> Any:
    """Azure's client of the double, without its sign-in; it does not ask again by itself."""
    from azure.core.pipeline.policies import SansIOHTTPPolicy
    from azure.mgmt.containerinstance import ContainerInstanceManagementClient

    class NoSignIn:
        def get_token(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("the double asks for no token")

    return ContainerInstanceManagementClient(
        NoSignIn(),
        "sub",
        base_url=f"http://127.0.0.1:{port}",
        authentication_policy=SansIOHTTPPolicy(),
        retry_total=0,
    )


def lead_to(double: ContainerInstances, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the step meet the double, whose verifier is content, without long waits."""
    monkeypatch.setattr(group_step, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(group_step, "_OUTPUT_SECONDS", 0.1)
    monkeypatch.setattr(AzureContainerInstanceHook, "get_conn", lambda _: client(double.port))
    double.output["verifier"] = printed(report())


@contextmanager
def killed_at(double: ContainerInstances, request: int) -> Iterator[None]:
    """A worker that dies at its n-th request: nothing of it reaches Azure from then on, and it cleans nothing up."""
    asked = 0
    found = client(double.port)

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)  # Azure's client reads what is written on its own methods
        def ask(*arguments: Any, **named: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked >= request:
                raise Killed
            return real(*arguments, **named)

        return ask

    with pytest.MonkeyPatch.context() as dead:
        for name in ("get", "begin_create_or_update", "begin_delete", "list_by_resource_group"):
            dead.setattr(found.container_groups, name, dying(getattr(found.container_groups, name)))
        dead.setattr(found.containers, "list_logs", dying(found.containers.list_logs))
        dead.setattr(AzureContainerInstanceHook, "get_conn", lambda _: found)
        with pytest.raises(Killed):
            yield
