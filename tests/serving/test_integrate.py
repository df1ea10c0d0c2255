"""The commands of docs/integrate.md and of the server's own page, run as their readers copy them."""

import csv
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from serving.files import csv_table
from tests.support.markdown import blocks, run
from tests.support.serving_bundles import Attrition
from tests.support.serving_processes import KEY, ROOT, Server

PAGE = (ROOT / "docs" / "integrate.md").read_text()
COUNT = 1_200
"""More records than the page sends at once."""
pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def folder(attrition: Attrition, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``people.csv``, in which values are missing."""
    records = attrition.records(COUNT)
    for place, record in enumerate(records):
        record |= {"DailyRate": None} if place % 7 == 0 else {}
        record |= {"JobRole": None} if place % 11 == 0 else {}
    made = tmp_path_factory.mktemp("caller")
    (made / "people.csv").write_text(csv_table(records), newline="")
    return made


def environ(server: Server) -> dict[str, str]:
    return {"URL": f"http://127.0.0.1:{server.port}", "KEY": KEY}


@pytest.mark.tools("curl")
def test_page_shows_what_curl_does_with_a_file(server: Server, folder: Path) -> None:
    (command,) = blocks(PAGE, "sh")
    assert run(*command, folder, **environ(server)).count("\n") == 3
    with (folder / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == COUNT
    assert all("the probability" in row["reasons"] for row in rows)


def test_page_shows_what_python_does(server: Server, folder: Path) -> None:
    with_csv, with_pandas = blocks(PAGE, "python")
    lines = run(*with_csv, folder, **environ(server)).splitlines()
    assert len(lines) == COUNT
    assert "OverTime is" in "".join(lines)
    described = run(*with_pandas, folder, **environ(server))
    figures = [float(re.search(r"\b[01]\.\d+(e-\d+)?", line)[0]) for line in lines]
    assert f"count    {COUNT}" in described
    assert f"{max(figures):.6f}" in described


@pytest.mark.parametrize(("name", "waits"), [("stop.json", [60.0]), ("keys.json", [1.0])], ids=["stopped", "not ready"])
def test_page_shows_how_to_wait_as_the_server_says_and_ask_again(
    attrition: Attrition,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    waits: list[float],
) -> None:
    """The wait is taken for the mending of what was wrong, so that the test need not wait a minute."""
    _, (_, with_pandas) = blocks(PAGE, "python")
    slept: list[float] = []

    with Server(tmp_path, attrition.folder, STOP_FILE=tmp_path / "stop.json") as server:
        keys = (tmp_path / "keys.json").read_bytes()
        (tmp_path / name).write_text("")

        def status() -> int:
            return server.predict(attrition.records(1)).status

        def until(wanted: int) -> None:
            deadline = time.monotonic() + 20
            while status() != wanted:
                assert time.monotonic() < deadline
                time.sleep(0.1)

        def mend(seconds: float) -> None:
            slept.append(seconds)
            (tmp_path / name).unlink()
            (tmp_path / "keys.json").write_bytes(keys)
            until(200)

        until(503)
        monkeypatch.setattr("urllib3.util.retry.time", SimpleNamespace(sleep=mend, time=time.time))
        monkeypatch.chdir(folder)
        for variable, value in environ(server).items():
            monkeypatch.setenv(variable, value)
        exec(with_pandas, {})  # noqa: S102 - the page's own
    assert slept == waits
    assert f"count    {COUNT}" in capsys.readouterr().out


@pytest.mark.tools("curl")
def test_calls_on_the_servers_own_page_work_as_they_stand(server: Server, tmp_path: Path) -> None:
    description = server.request("GET", "/openapi.json").json["info"]["description"]
    for block in blocks(description, "sh"):
        if "scoring_client" not in block[1]:
            printed = run(*block, tmp_path, **environ(server))
            assert not printed or json.loads(printed)["records"][0]["reasons"]
    with (tmp_path / "answers.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert "the probability" in row["reasons"]


@pytest.mark.parametrize("name", ["server", "open"])
def test_python_on_the_servers_own_page_works_as_it_stands(
    name: str, server: Server, flats: Path, tmp_path: Path
) -> None:
    if name == "server":
        python, _ = blocks(server.request("GET", "/openapi.json").json["info"]["description"], "python")
        assert "the probability" in run(*python, tmp_path, **environ(server))
        return
    with Server(tmp_path, flats, AUTH="off") as silent:
        description = silent.request("GET", "/openapi.json").json["info"]["description"]
        python, _ = blocks(description, "python")
        assert run(*python, tmp_path, **environ(silent)).endswith(" []\n")
        assert "KEY" not in description
