"""The release's steps against the real scoring host, with real gunicorn processes."""

import hashlib
import json
import os
import shutil
import threading
from types import SimpleNamespace

import pytest
import requests
from airflow.models.connection import Connection
from airflow.sdk.exceptions import AirflowFailException

from embedded.scoring_host import SlotHost
from lifecycle import settings
from lifecycle.evidence import document as evidence
from lifecycle.hooks import registry, targets
from lifecycle.hooks.slot import Slot
from tests.support.airflow import USE_CASE, make_settings
from tests.support.bundles import make_bundle
from tests.support.image_names import digest
from tests.support.images import build_image
from tests.support.machine import free_port
from tests.support.scoring_steps import NOTHING, context, make
from training.registry.content import folder_digest

KEY = "a key for tests"
pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Version to image: 1 and 2 are sound, ``broken`` ends at once, ``wrong`` answers with another model."""
    folder, scratch = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("scratch")
    bundles = {seed: make_bundle(scratch / f"bundle-{seed}", seed) for seed in (1, 2)}
    made = {str(seed): build_image(folder, scratch, bundles[seed], str(seed)) for seed in bundles}
    found = {version: {"image": str(built), "version": version} for version, built in made.items()}
    for name, path, content in (
        ("broken", "serving/wsgi.py", b'raise SystemExit("broken on purpose")\n'),
        ("wrong", "bundle/classifier.onnx", (bundles[2] / "classifier.onnx").read_bytes()),
    ):
        copy = folder / name
        shutil.copytree(made["1"].place, copy)
        (copy / path).write_bytes(content)
        found[name] = {"image": f"{copy}@sha256:{folder_digest(copy)}", "version": "1"}
    return found


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A slot with its host; the servers it starts end with it."""
    home, port = tmp_path_factory.mktemp("slots"), free_port()
    keys = home / "keys.json"
    keys.write_text(json.dumps({"tests": hashlib.sha256(KEY.encode()).hexdigest()}))
    names = ("PATH", "HOME", "LANG")
    slot = SlotHost(
        home / USE_CASE / "production",
        port=port,
        keys=keys,
        env={name: os.environ[name] for name in names if name in os.environ},
    )
    thread = threading.Thread(target=slot.run)
    thread.start()
    yield SimpleNamespace(home=home, port=port)
    slot.stop()
    thread.join(60)


@pytest.fixture
def slot(host, images, connections, monkeypatch):
    """The slot behind both connections, and a registry in which everything is approved."""
    for place in ("staging", "production"):
        name = f"scoring_{place}"
        extra = {"home": str(host.home)}
        connections[name] = Connection(
            conn_id=name, conn_type="gunicorn", host="127.0.0.1", port=host.port, password=KEY, extra=extra
        )
    monkeypatch.setattr(registry, "resolve", lambda use_case, version: version)
    monkeypatch.setattr(evidence, "read_approved", lambda use_case, version, image: None)
    monkeypatch.setattr("lifecycle.operators.steps.VERIFY_SECONDS", 1.0)
    return Slot(connections["scoring_production"], USE_CASE, "production")


def do(step, image, target="production", run="run-1"):
    operator = make(step, target, approved_image=image["image"], **image)
    now = context(operator)
    now["ti"].run_id = run
    return operator.execute(now)


def test_deploy_runs_the_image_and_says_what_it_replaced(slot, images):
    do("restore", NOTHING, run="clean")
    first = do("deploy", images["1"], run="a")
    assert (first["version"], first["previous"]) == ("1", None)
    second = do("deploy", images["2"], run="b")
    assert second["image"] == images["2"]["image"]
    assert second["previous"] == images["1"]
    assert targets.current(USE_CASE, "production") == images["2"]


def test_deploy_a_second_time_starts_nothing_anew(slot, images):
    do("deploy", images["1"], run="twice")
    pid = slot.status().stable.pid
    do("deploy", images["1"], run="twice")
    assert slot.status().stable.pid == pid


def test_broken_image_fails_with_its_log_and_leaves_what_ran(slot, images):
    do("deploy", images["1"], run="c")
    pid = slot.status().stable.pid
    with pytest.raises(AirflowFailException, match=r"(?s)deploy at production failed.*what ran before runs again"):
        do("deploy", images["broken"], run="d")
    assert slot.status().stable.pid == pid
    assert targets.current(USE_CASE, "production") == images["1"]


def test_canary_answers_beside_the_stable_and_is_watched(slot, images):
    do("deploy", images["1"], run="e")
    report = do("canary", images["2"], run="e")
    assert (report["version"], report["beside"]) == ("2", images["1"])
    answers = {requests.get(f"{slot.url}/version", timeout=5).json()["model"]["version"] for _ in range(60)}
    assert answers == {"1", "2"}
    watched = do("watch", images["2"], run="e")
    assert watched["passed"]
    assert watched["requests"] > 0
    do("deploy", images["2"], run="e")
    assert slot.status().canary is None


def test_canary_that_fails_is_gone_and_the_stable_untouched(slot, images):
    do("deploy", images["1"], run="f")
    with pytest.raises(AirflowFailException, match="what ran before runs again"):
        do("canary", images["broken"], run="f")
    assert slot.status().canary is None
    assert targets.current(USE_CASE, "production") == images["1"]


def test_watch_without_a_canary_says_what_to_do(slot, images):
    do("deploy", images["1"], run="g")
    with pytest.raises(AirflowFailException, match="run the canary step first"):
        do("watch", images["1"], run="g")


def test_verify_reports_every_check_of_a_sound_server(slot, images):
    do("deploy", images["1"], run="h")
    report = do("verify", images["1"], run="h")
    assert report["passed"]
    names = ["version", "health", "ready", "golden answers", "contract", "keys", "load", "no restart"]
    assert [check["name"] for check in report["checks"]] == names
    assert report["requests"] > 10
    assert report["errors"] == 0
    assert report["p95_ms"] > 0


def test_verify_of_another_model_fails_with_the_first_wrong_answer(slot, images):
    do("deploy", images["wrong"], run="i")
    with pytest.raises(AirflowFailException, match=r"golden answers: classifier__predictions: example 0 should be"):
        do("verify", images["wrong"], run="i")


def test_verify_of_another_version_fails_and_names_both(slot, images, monkeypatch):
    do("deploy", images["1"], run="j")
    monkeypatch.setattr("lifecycle.operators.steps.SETTLE_SECONDS", 1.0)
    with pytest.raises(AirflowFailException, match="the server runs version 1, not 2"):
        do("verify", images["2"], run="j")


def test_image_with_another_content_than_its_digest_is_not_deployed(slot, images):
    do("deploy", images["1"], run="k")
    with pytest.raises(AirflowFailException, match=r"has digest .*: it is not deployed"):
        do("deploy", {**images["2"], "image": f"{images['2']['image'].partition('@')[0]}@{digest('00')}"}, run="k")
    assert targets.current(USE_CASE, "production") == images["1"]


def test_restore_to_nothing_ends_the_server(slot, images):
    do("deploy", images["1"], run="l")
    do("restore", NOTHING, run="l")
    assert targets.current(USE_CASE, "production") is None
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{slot.url}/version", timeout=5)


def test_slot_without_a_host_says_how_to_start_it(slot, connections, images, tmp_path, monkeypatch):
    quick = make_settings(release=settings.Release(rollout_timeout=1))
    monkeypatch.setattr(settings, "load", lambda: quick)
    connections["scoring_staging"].set_extra(json.dumps({"home": str(tmp_path)}))
    with pytest.raises(AirflowFailException, match="start it with `make up`"):
        do("deploy", images["1"], target="staging", run="m")


def test_stop_is_obeyed_by_what_runs_and_by_what_comes_later_until_it_is_taken_back(slot, images):
    """Through the operator, as the DAGs do it; a canary obeys too, and a server that is started meanwhile."""
    said = json.dumps({"reason": "wrong data", "by": "ann", "since": "2026-11-26T10:00:00Z"})
    for step, version in (("deploy", "1"), ("canary", "2")):
        operator = make(step, "production", **images[version], approved_image=images[version]["image"])
        operator.execute(context(operator))

    def switched(step):
        operator = make(step, "production", **images["1"], said=said)
        operator.execute(context(operator))
        return [requests.get(f"{running.url}/version", timeout=10).json()["stopped"] for running in (
            slot.status().stable, slot.status().canary)]  # fmt: skip

    assert switched("stop") == [{"reason": "wrong data", "since": "2026-11-26T10:00:00Z"}] * 2
    operator = make("deploy", "production", **images["2"], approved_image=images["2"]["image"])
    operator.execute(context(operator))
    later = slot.status().stable
    assert later.version == "2"
    assert requests.get(f"{later.url}/version", timeout=10).json()["stopped"]
    operator = make("resume", "production", **images["2"], said=said)
    operator.execute(context(operator))
    assert requests.get(f"{later.url}/version", timeout=10).json()["stopped"] is None
