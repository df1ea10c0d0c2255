"""The whole stack as processes: it comes up, recovers from kills, and leaves nothing behind."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import requests

from embedded import stack as stacks
from embedded.environment import Stack
from embedded.processes import leftovers
from tests.support.machine import eventually, own_ports, runs
from tests.support.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stack(tmp_path):
    """A stack with a home and ports of its own; whatever a test leaves is ended."""
    shell = {key: value for key, value in os.environ.items() if key != "LIFECYCLE_SETTINGS"}
    made = Stack.read(shell | own_ports() | {"LIFECYCLE_HOME": str(tmp_path / "home")})
    yield made
    command(made, "down")
    assert leftovers(made.home) == []


def command(stack, *arguments):
    """Run ``python -m embedded`` on this stack."""
    return subprocess.run(
        [sys.executable, "-m", "embedded", *arguments],
        cwd=ROOT, env=dict(stack.shell), capture_output=True, text=True, timeout=280,
    )  # fmt: skip


@pytest.mark.parametrize("asks", [True, False], ids=["who asks whether it is up", "another supervisor"])
def test_supervisor_waits_for_who_asks_and_not_for_another_one(tmp_path, monkeypatch, asks):
    """Whoever asks takes the lock for a moment, and a start in that moment said that the stack was up already."""
    own = Stack.read({**os.environ, "LIFECYCLE_HOME": str(tmp_path)})
    for name in ("_start", "_keep", "_end"):
        monkeypatch.setattr(stacks.Supervisor, name, lambda self: None)
    monkeypatch.setattr(stacks.StopSignal, "listen", lambda *_: None)  # pytest has handlers of its own
    monkeypatch.setattr(stacks, "_LOCK_PATIENCE", 20.0 if asks else 0.05)
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "stack.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if asks:
            threading.Timer(0.2, fcntl.flock, (file, fcntl.LOCK_UN)).start()
            stacks.Supervisor(own).run()
        else:
            with pytest.raises(stacks.AlreadyUp, match="is up already"):
                stacks.Supervisor(own).run()


def test_down_ends_no_program_that_has_the_pid_of_a_killed_supervisor(tmp_path):
    """The next supervisor holds the stack and has not written its own pid yet."""
    own = Stack.read({**os.environ, "LIFECYCLE_HOME": str(tmp_path)})
    (tmp_path / "run").mkdir()
    another = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (tmp_path / "run" / "stack.json").write_text(json.dumps({"pid": another.pid, "state": "up"}))
        with (tmp_path / "run" / "stack.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            threading.Timer(0.5, fcntl.flock, (file, fcntl.LOCK_UN)).start()
            stacks.down(own, lambda line: None)
        assert another.poll() is None
    finally:
        another.communicate(b"\n")
    assert another.returncode == 0


@pytest.mark.stack
def test_stack_comes_up_recovers_from_kills_and_leaves_nothing(stack):
    started = command(stack, "up", "--detach")
    assert started.returncode == 0, started.stdout + started.stderr
    for address in (stack.airflow_url, stack.mlflow_url, stack.minilake_url):
        assert address in started.stdout
    token = requests.post(
        f"{stack.airflow_url}/auth/token",
        json={"username": "admin", "password": stack.credentials.airflow_password},
        timeout=30,
    )
    assert token.status_code == 201

    again = command(stack, "up")
    assert again.returncode == 0
    assert "is up already" in again.stdout
    assert stack.credentials.airflow_password in command(stack, "status").stdout

    minilake = stacks.read_state(stack)["parts"]["minilake"]["pid"]
    os.kill(minilake, signal.SIGKILL)
    assert eventually(lambda: stacks.read_state(stack)["parts"]["minilake"]["pid"] != minilake)
    assert eventually(lambda: answers(f"{stack.minilake_url}/_minilake/health"), 60)

    supervisor = stacks.read_state(stack)["pid"]
    os.kill(supervisor, signal.SIGKILL)
    orphans = {process.pid for process in leftovers(stack.home)}
    assert orphans, "a killed supervisor cannot have ended its processes"
    terminal = Terminal("import os; os.execvp('make', ['make', 'up'])", environ=stack.shell)
    terminal.wait(lambda: "the stack is up" in terminal.shown, 280)
    assert "that an earlier stack had left behind" in terminal.shown
    assert not [pid for pid in orphans if runs(pid)]

    listening = [
        connection.laddr.ip
        for process in leftovers(stack.home)
        for connection in psutil.Process(process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}

    terminal.type("\x03")
    terminal.exit_code(60)
    terminal.close()
    assert leftovers(stack.home) == []
    assert "Traceback" not in terminal.shown
    assert command(stack, "status").returncode == 3


def answers(url):
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def test_busy_port_stops_the_start_with_its_number_and_its_setting(stack):
    with socket.create_server(("127.0.0.1", stack.ports.mlflow)):
        result = command(stack, "up")
    assert result.returncode == 1
    assert result.stderr.strip() == (
        f"port {stack.ports.mlflow} is in use by another program: stop that, "
        "or set LIFECYCLE_MLFLOW_PORT to a free port"
    )


def test_busy_port_is_told_by_a_detached_start_too(stack):
    with socket.create_server(("127.0.0.1", stack.ports.production)):
        result = command(stack, "up", "--detach")
    assert result.returncode == 1
    assert "set LIFECYCLE_PRODUCTION_PORT to a free port" in result.stderr


def test_down_without_a_stack_says_that_there_is_nothing_to_stop(stack):
    assert command(stack, "down").stdout.strip() == "nothing to stop: the stack is not up"


def test_part_that_ends_while_it_starts_fails_the_start_with_its_last_lines(stack):
    """The scoring host cannot read its state where a folder has the file's name."""
    (stack.home / "slots" / "export.json").mkdir(parents=True)
    result = command(stack, "up")
    assert result.returncode == 1
    assert "scoring host ended with code 1" in result.stderr
    assert "IsADirectoryError" in result.stderr
    assert leftovers(stack.home) == []
