"""The stop switch: one file that every worker obeys within a second, and nothing else minds."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import mounted_file
from serving.errors import Stopped
from serving.stop_switch import Stop, StopSwitch
from tests.support.machine import eventually
from tests.support.serving_bundles import Attrition
from tests.support.serving_processes import Answer, Server, key_file

WITHIN = 1.0


@pytest.fixture
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounted_file, "LOOK_SECONDS", 0.0)


@pytest.mark.usefixtures("look_at_once")
@pytest.mark.parametrize(
    ("content", "stop"),
    [
        (b'{"reason": "wrong salaries", "since": "2026-11-26T10:00:00Z", "by": "ann"}',
         Stop("wrong salaries", "2026-11-26T10:00:00Z")),
        (b"written by hand\n", Stop("written by hand")),
        (b'{"reason": 5}', Stop('{"reason": 5}')),
        (b"", Stop("the stop file does not say why")),
        (b"\xff\xfe", Stop("\ufffd\ufffd")),
        (b"a" * 9999, Stop("a" * 500)),
    ],
    ids=["json", "text", "other-json", "empty", "not-utf-8", "long"],
)  # fmt: skip
def test_whatever_is_in_the_file_stops(tmp_path: Path, content: bytes, stop: Stop) -> None:
    path = tmp_path / "stop.json"
    switch = StopSwitch(path)
    assert switch.stop is None
    path.write_bytes(content)
    assert switch.stop == stop
    with pytest.raises(Stopped) as refusal:
        switch.refuse()
    assert stop.reason in refusal.value.detail
    path.unlink()
    assert switch.stop is None
    switch.refuse()


@pytest.mark.usefixtures("look_at_once")
def test_file_that_cannot_be_read_stops(tmp_path: Path) -> None:
    assert StopSwitch(tmp_path).stop == Stop("the stop file cannot be read: Is a directory")


@pytest.mark.usefixtures("look_at_once")
def test_folder_that_is_not_mounted_stops_nothing(tmp_path: Path) -> None:
    assert StopSwitch(tmp_path / "nowhere" / "stop.json").stop is None
    assert StopSwitch(None).stop is None


def test_file_is_looked_at_twice_a_second_however_many_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    read = Path.read_bytes

    def counted(path: Path) -> bytes:
        nonlocal looks
        looks += 1
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    switch = StopSwitch(tmp_path / "stop.json")
    assert [switch.stop for _ in range(1000)] == [None] * 1000
    assert looks == 1
    monkeypatch.setattr(time, "monotonic", lambda: 100.5)
    assert switch.stop is None
    assert looks == 2


def _by_every_worker(server: Server, ask: Callable[[], Answer], wanted: int, since: float) -> None:
    """Asks until the second is over, and then so often that each of two workers has answered."""
    while time.monotonic() < since + WITHIN:
        ask()
    assert {ask().status for _ in range(40)} == {wanted}
    assert len(server.workers()) == 2


@pytest.mark.stack
def test_both_workers_obey_the_file_and_a_changed_key_file_within_a_second(
    attrition: Attrition, tmp_path: Path
) -> None:
    switch = tmp_path / "stop.json"
    with Server(tmp_path, attrition.folder, WORKERS=2, STOP_FILE=switch) as server:

        def predict() -> Answer:
            return server.predict(attrition.records(1))

        assert {predict().status for _ in range(40)} == {200}
        assert server.request("GET", "/version").json["stopped"] is None

        switch.write_text(json.dumps({"reason": "salaries are wrong", "by": "ann", "since": "2026-11-26T10:00:00Z"}))
        _by_every_worker(server, predict, 503, time.monotonic())
        scored = len(server.log_lines())
        refused = predict()
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json["type"] == "urn:scoring:problem:stopped"
        assert refused.headers["retry-after"] == "60"
        assert refused.json["detail"] == "this service has been stopped: salaries are wrong"
        assert {server.request("GET", path).status for path in ("/readyz", "/healthz") for _ in range(10)} == {200}
        said = server.request("GET", "/version").json["stopped"]
        assert said == {"reason": "salaries are wrong", "since": "2026-11-26T10:00:00Z"}
        assert len(server.log_lines()) == scored, "a refused request is not scored"

        switch.unlink()
        _by_every_worker(server, predict, 200, time.monotonic())

        key_file(tmp_path, portal="another")
        _by_every_worker(server, predict, 403, time.monotonic())


def test_server_that_starts_later_starts_stopped(attrition: Attrition, tmp_path: Path) -> None:
    switch = tmp_path / "stop.json"
    switch.write_text("not now")
    with Server(tmp_path, attrition.folder, STOP_FILE=switch) as server:
        assert server.predict(attrition.records(1)).status == 503
        assert server.predict(attrition.records(1), X_API_Key="guessed").status == 403, "only clients are told why"

        def told() -> list[tuple[int, str]]:
            lines = map(json.loads, server.stderr.read_text().splitlines())
            return [(line["status"], line["problem"]) for line in lines if line["type"] == "Access"]

        # What operators tell a stop from a failure by: both are 503.
        assert eventually(lambda: told() == [(503, "stopped"), (403, "key-refused")], 5), told()
