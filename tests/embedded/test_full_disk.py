"""What runs on this machine while its disk is full: it goes on, and what was asked for is done once there is room."""

import errno
import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from embedded import scoring_host
from embedded.log_export import Exporter
from embedded.refusals import Refusals
from lifecycle.hooks.slot import Desired, Running, Slot, SlotError, Unit
from tests.support.image_names import digest
from tests.support.machine import free_port


class Server:
    """Stands for a gunicorn, which is ready at once."""

    made: list["Server"] = []

    def __init__(self, *, name, unit, **_):
        self.name, self.unit, self.ended = name, unit, False
        self.running = Running(unit.image, unit.version, pid=1, url="http://127.0.0.1:9")
        self.made.append(self)

    def exit_code(self):
        return 0 if self.ended else None

    def await_ready(self, timeout, given_up):
        return None

    def drain(self):
        self.ended = True


@pytest.fixture
def slot(tmp_path, monkeypatch):
    """A slot with its host, whose ``full`` says after how many more writes of its status the disk is full."""
    monkeypatch.setattr(Server, "made", [])
    monkeypatch.setattr(scoring_host, "Child", Server)
    disk = SimpleNamespace(left=None)
    write = scoring_host._write_status

    def refuse(folder, status):
        if disk.left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        disk.left = None if disk.left is None else disk.left - 1
        write(folder, status)

    monkeypatch.setattr(scoring_host, "_write_status", refuse)
    folder = tmp_path / "attrition" / "production"
    host = scoring_host.SlotHost(folder, port=free_port(), keys=tmp_path / "keys.json", env={})
    thread = threading.Thread(target=host.run)
    thread.start()
    connection = SimpleNamespace(conn_id="scoring_production", password="", extra_dejson={"home": str(tmp_path)})
    yield SimpleNamespace(slot=Slot(connection, "attrition", "production"), disk=disk, thread=thread)
    host.stop()
    thread.join(30)
    assert all(server.ended for server in Server.made), "a server outlived its host"


def unit(tmp_path, version):
    (tmp_path / version).mkdir()
    return Unit(image=f"{tmp_path / version}@{digest(version)}", version=version)


def alive():
    return {server.unit.version for server in Server.made if not server.ended}


@pytest.mark.parametrize("left", [0, 1], ids=["before the new server starts", "once it is ready"])
def test_release_on_a_full_disk_leaves_a_server_and_comes_about_once_there_is_room(slot, tmp_path, left):
    """The slot's thread ended with the write that failed, and took the servers that ran with it."""
    one, two = unit(tmp_path, "1"), unit(tmp_path, "2")
    slot.slot.ask(Desired("first", stable=one), timeout=30)
    slot.disk.left = left
    with pytest.raises(SlotError):
        slot.slot.ask(Desired("second", stable=two), timeout=1)
    assert slot.thread.is_alive()
    assert alive() == {"2" if left else "1"}
    slot.disk.left = None
    assert slot.slot.ask(Desired("second", stable=two), timeout=30).stable.version == "2"
    assert alive() == {"2"}


def test_heartbeat_that_a_full_disk_refuses_is_told_once_and_ends_no_server(tmp_path, caplog):
    stack = SimpleNamespace(slots=tmp_path / "slots")
    looked = SimpleNamespace(look=lambda: None)
    refusals = Refusals(scoring_host.log, "nothing new is taken up")
    scoring_host.beat(looked, stack, refusals)  # its folder is not there
    fault = refusals.last
    assert "No such file or directory" in fault
    scoring_host.beat(looked, stack, refusals)
    assert refusals.last == fault
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    stack.slots.mkdir()
    scoring_host.beat(looked, stack, refusals)
    assert refusals.last == ""


@pytest.mark.parametrize("number", [1, 2, 3], ids=["what is under way", "the lines", "what is done"])
def test_lines_that_a_full_disk_refused_are_exported_once(tmp_path, monkeypatch, caplog, number):
    """The exporter's thread ended, and with it the host and every server."""
    slots, exports = tmp_path / "slots", tmp_path / "exports"
    output = slots / "attrition" / "production" / "output" / "scoring-1.stdout.log"
    output.parent.mkdir(parents=True)
    output.write_text("one\ntwo\n")
    exporter = Exporter(slots, exports, live_names=lambda: {"scoring-1"}, namespace=lambda *_: "attrition-production")
    exporter.stop()  # a run is one try then
    opened, writes = Path.open, []

    class Full:
        """A file that takes half of what it is given."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(path, mode="r", *arguments, **named):
        file = opened(path, mode, *arguments, **named)
        writes.append(path) if mode in ("w", "ab") else None
        return Full(file) if mode in ("w", "ab") and len(writes) == number else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        exporter.run()
    assert len(writes) == number
    assert "cannot be exported: [Errno 28] No space left on device" in caplog.text
    output.write_text("one\ntwo\nthree\n")
    exporter.run()
    found = [json.loads(line) for file in exports.rglob("*.json") for line in file.read_text().splitlines()]
    assert [record["LogMessage"] for record in found] == ["one", "two", "three"]
