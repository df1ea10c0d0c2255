"""The scoring host: releases replace each other without a lost request, and nothing stays behind."""

import os
import shutil
import signal

import psutil
import pytest
import requests

from embedded.scoring_child import SLOT_MARKER
from lifecycle.hooks.slot import Desired, SlotError, Unit
from tests.support.bundles import make_bundle
from tests.support.image_names import digest
from tests.support.machine import eventually, runs
from tests.support.scoring import Host, Load, make_image

pytestmark = pytest.mark.stack
TIMEOUT = 60


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two releases of one bundle, and one that cannot start."""
    folder = tmp_path_factory.mktemp("images")
    bundle = make_bundle(folder / "bundle", seed=1)
    broken = make_image(folder / "broken", bundle, "3")
    (folder / "broken" / "bundle" / "contract.json").write_text("{}")
    return {"1": make_image(folder / "v1", bundle, "1"), "2": make_image(folder / "v2", bundle, "2"), "broken": broken}


@pytest.fixture
def host(tmp_path):
    running = Host(tmp_path)
    running.start()
    yield running
    running.stop()
    assert not servers(running), "a server outlived its host"


@pytest.fixture
def record(host, images):
    """The example of the server's own documentation; deploys version 1."""
    host.slot.ask(Desired("first", stable=images["1"]), timeout=TIMEOUT)
    document = requests.get(f"{host.url}/openapi.json", timeout=10).json()
    return document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"][0]


def servers(host):
    """Pids of all scoring servers of the host's home, workers included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(SLOT_MARKER, "").startswith(str(host.stack.home)) and runs(process.pid):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_canary_and_rollout_under_load_lose_no_request_and_change_the_version(host, images, record):
    with Load(host, record) as load:
        status = host.slot.ask(Desired("canary", stable=images["1"], canary=images["2"]), timeout=TIMEOUT)
        assert status.canary is not None
        assert requests.get(f"{status.canary.url}/version", timeout=10).json()["model"]["version"] == "2"
        assert eventually(lambda: "2" in load.versions), "the canary took no share of the traffic"
        host.slot.ask(Desired("rollout", stable=images["2"]), timeout=TIMEOUT)
        done = len(load.versions)
        assert eventually(lambda: len(load.versions) > done + 10)
    assert load.faults == []
    assert set(load.versions[done + 3 :]) == {"2"}
    assert host.slot.status().canary is None


def test_release_that_cannot_start_keeps_the_old_one_and_says_why(host, images, record):
    with Load(host, record, clients=1) as load, pytest.raises(SlotError, match=r"stable version 3: .*ended with code"):
        host.slot.ask(Desired("broken", stable=images["broken"]), timeout=TIMEOUT)
    status = host.slot.status()
    assert (status.state, status.stable.version) == ("failed", "1")
    assert any("contract" in line for line in status.log_tail)
    assert load.faults == []
    assert set(load.versions) == {"1"}


def test_server_that_dies_is_started_again_and_requests_wait_for_it(host, images, record):
    pid = host.slot.status().stable.pid
    os.killpg(pid, signal.SIGKILL)
    assert host.predict(record).status_code == 200
    assert eventually(lambda: host.slot.status().stable.pid != pid)
    assert "was started again" in host.slot.status().message


def assert_nobody_was_left_without_an_answer(load):
    """A killed host takes its socket along: what waits in it when its last server closes it is reset, no more."""
    assert len(load.versions) > 10
    assert len(load.faults) <= 1, load.faults
    assert all("reset" in fault for fault in load.faults)


def test_killed_host_leaves_servers_that_the_next_one_replaces(host, images, record):
    before = servers(host)
    host.stop(signal.SIGKILL)
    assert host.predict(record).status_code == 200  # its server goes on alone
    with Load(host, record, clients=1) as load:
        host.start()
        assert eventually(lambda: not [pid for pid in before if runs(pid)], 30)
    assert_nobody_was_left_without_an_answer(load)
    assert host.version() == "1"
    assert host.slot.status().generation == "first"


def test_host_killed_after_a_wish_that_failed_runs_again_what_ran_before(host, images, record):
    with pytest.raises(SlotError):
        host.slot.ask(Desired("broken", stable=images["broken"]), timeout=TIMEOUT)
    before = servers(host)
    host.stop(signal.SIGKILL)
    with Load(host, record, clients=1) as load:
        host.start()
        assert eventually(lambda: not [pid for pid in before if runs(pid)], 30)
    assert_nobody_was_left_without_an_answer(load)
    assert set(load.versions) == {"1"}
    status = host.slot.status()
    assert (status.generation, status.state, status.stable.version) == ("broken", "failed", "1")


def test_host_killed_in_the_middle_of_a_wish_comes_back_with_what_ran_and_then_fulfils_it(host, images, record):
    waiting = Desired("rollout", stable=images["2"])
    with pytest.raises(SlotError, match=r"not ready|has not taken up"):
        host.slot.ask(waiting, timeout=0.1)
    host.stop(signal.SIGKILL)
    with Load(host, record, clients=1) as load:
        host.start()
        host.slot.ask(waiting, timeout=TIMEOUT)
    assert_nobody_was_left_without_an_answer(load)
    assert host.version() == "2"


def test_image_that_is_gone_fails_the_wish_and_keeps_the_old_server(host, images, record):
    gone = Unit(image=f"{images['2'].folder}-gone@{digest('2')}", version="2")
    with pytest.raises(SlotError, match="there is no image"):
        host.slot.ask(Desired("gone", stable=gone), timeout=TIMEOUT)
    assert host.version() == "1"


def test_wish_that_failed_is_tried_again_when_it_is_asked_for_again(host, images, record, tmp_path):
    """A ``restore_production`` that had failed once failed at every clear, with the message of the first try."""
    late = Desired("late", stable=Unit(image=f"{tmp_path / 'late'}@{digest('2')}", version="2"))
    for _ in range(2):
        with pytest.raises(SlotError, match="there is no image"):
            host.slot.ask(late, timeout=TIMEOUT)
    shutil.copytree(images["2"].folder, tmp_path / "late")
    host.slot.ask(late, timeout=TIMEOUT)
    assert host.version() == "2"


def test_slot_that_is_to_run_nothing_refuses_instead_of_letting_callers_wait(host, images, record):
    host.slot.ask(Desired("empty"), timeout=TIMEOUT)
    assert host.slot.status().stable is None
    with pytest.raises(requests.ConnectionError):
        host.version()
    host.slot.ask(Desired("again", stable=images["2"]), timeout=TIMEOUT)
    assert host.version() == "2"


def test_wish_that_is_no_json_is_reported_and_the_server_stays(host, record):
    (host.stack.slot("attrition", "production") / "desired.json").write_text("{")
    assert eventually(lambda: "is not usable" in host.slot.status().message)
    assert host.predict(record).status_code == 200


def test_every_request_is_exported_once_although_the_host_is_killed(host, images, record):
    sent = []
    for number in range(60):
        request_id = f"request-{number}"
        assert host.predict(record, request_id).status_code == 200
        sent.append(request_id)
        if number in (20, 40):
            assert eventually(host.exported)
            host.stop(signal.SIGKILL)
            host.start()
            assert eventually(lambda: host.slot.status().state == "complete")
    host.stop()
    lines = [line["LogMessage"] for line in host.exported() if line["LogSource"] == "stdout"]
    seen = [line["request_id"] for line in lines if isinstance(line, dict) and line.get("type") == "InputData"]
    assert sorted(seen) == sorted(sent)
