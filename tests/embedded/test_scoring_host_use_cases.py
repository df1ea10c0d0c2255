"""Several use cases in one scoring host: each has addresses of its own, and the trouble of one is not the other's."""

import json
import signal

import pytest
import requests

from embedded.addresses import Addresses
from lifecycle.hooks.slot import Desired, SlotError
from tests.support.bundles import make_bundle
from tests.support.machine import eventually
from tests.support.scoring import Host, make_image
from tests.support.serving_bundles import write_flats

pytestmark = pytest.mark.stack
TIMEOUT = 60
FLATS = """
from serving.scoring.contract import Field
from training.use_case import Binary, UseCase

USE_CASE = UseCase(
    name="{name}", title="{name} finder", description="Finds flats.", owner="tests", online={online},
    fields=(Field("rooms", "integer", "Rooms", 2, minimum=1, maximum=20),), label=Binary("large"),
    purpose="Tests.", misuse="All else.",
)
"""


def define(folder, name, online=True):
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(FLATS.format(name=name, online=online))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A release of attrition, and one of a model that shares nothing with it."""
    folder = tmp_path_factory.mktemp("images")
    write_flats(folder / "flats-bundle")
    return {
        "attrition": make_image(folder / "attrition", make_bundle(folder / "bundle", seed=1), "1"),
        "flats": make_image(folder / "flats", folder / "flats-bundle", "7", model="flats"),
    }


@pytest.fixture
def host(tmp_path):
    running = Host(tmp_path / "home", use_cases=tmp_path / "definitions")
    running.start()
    yield running
    running.stop()


def document(url):
    return requests.get(f"{url}/openapi.json", timeout=10).json()


def example(url):
    return document(url)["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"][0]


def test_use_case_that_comes_later_answers_beside_the_first_and_both_keep_their_addresses(host, images, tmp_path):
    first = host.slot_of("attrition")
    first.ask(Desired("a", stable=images["attrition"]), timeout=TIMEOUT)
    define(tmp_path / "definitions", "flats")  # while the host runs
    second = host.slot_of("flats")
    second.ask(Desired("b", stable=images["flats"]), timeout=TIMEOUT)

    assert first.url == f"http://127.0.0.1:{host.stack.ports.production}"
    assert second.url not in (first.url, host.slot_of("attrition", "staging").url)
    assert (document(first.url)["info"]["title"], document(second.url)["info"]["title"]) == (
        "Employee Attrition API",
        "Flat Finder",
    )
    for number, slot in enumerate((first, second)):
        assert host.predict(example(slot.url), f"to-{number}", slot.url).status_code == 200
    addresses = Addresses(host.stack)
    assert addresses.url("flats", "production") == second.url

    before, pids = (first.url, second.url), {slot.status().stable.pid for slot in (first, second)}
    host.stop(signal.SIGKILL)
    host.start()
    assert eventually(lambda: pids.isdisjoint(slot.status().stable.pid for slot in (first, second)))
    assert (first.url, second.url) == before
    assert eventually(lambda: (host.version(first.url), host.version(second.url)) == ("1", "7"))
    host.stop()
    scored = [line for line in host.exported() if isinstance(line["LogMessage"], dict)]
    seen = {(line["PodNamespace"], line["LogMessage"].get("request_id")) for line in scored}
    assert {("attrition-production", "to-0"), ("flats-production", "to-1")} <= seen
    assert not {("attrition-production", "to-1"), ("flats-production", "to-0")} & seen


def test_release_of_one_use_case_leaves_the_server_of_the_other_alone(host, images, tmp_path):
    define(tmp_path / "definitions", "flats")
    first, second = host.slot_of("attrition"), host.slot_of("flats")
    first.ask(Desired("a", stable=images["attrition"]), timeout=TIMEOUT)
    pid = first.status().stable.pid
    second.ask(Desired("b", stable=images["flats"]), timeout=TIMEOUT)
    second.ask(Desired("c"), timeout=TIMEOUT)
    with pytest.raises(requests.ConnectionError):
        host.version(second.url)
    assert (first.status().stable.pid, host.version(first.url)) == (pid, "1")


def test_use_case_that_is_not_defined_is_refused_with_the_names_of_those_that_are(host, images):
    with pytest.raises(SlotError, match=r"there is no use case 'flats': use one of attrition"):
        host.slot_of("flats").ask(Desired("a", stable=images["flats"]), timeout=TIMEOUT)
    assert Addresses(host.stack).assigned() == {}


def test_use_case_without_a_server_is_refused(host, images, tmp_path):
    define(tmp_path / "definitions", "flats", online=False)
    with pytest.raises(SlotError, match="use case flats has online=False: no server answers for it"):
        host.slot_of("flats").ask(Desired("a", stable=images["flats"]), timeout=TIMEOUT)


def test_definition_that_breaks_costs_its_running_server_nothing(host, images, tmp_path):
    define(tmp_path / "definitions", "flats")
    slot = host.slot_of("flats")
    slot.ask(Desired("a", stable=images["flats"]), timeout=TIMEOUT)
    pid, definition = slot.status().stable.pid, tmp_path / "definitions" / "flats" / "__init__.py"
    host.stop()
    sound = definition.read_text()
    definition.write_text("# imports, and defines nothing")
    host.start()
    assert eventually(lambda: slot.status().stable.pid != pid)
    assert eventually(lambda: answers(slot.url))
    assert host.predict(example(slot.url), "meanwhile", slot.url).status_code == 200
    assert "meanwhile" not in requests_of(host), "nobody knows yet whose line it is"
    definition.write_text(sound)
    assert eventually(lambda: "meanwhile" in requests_of(host))


def answers(url):
    try:
        return requests.get(f"{url}/readyz", timeout=2).ok
    except requests.ConnectionError:
        return False


def requests_of(host):
    return {line["LogMessage"].get("request_id") for line in host.exported() if isinstance(line["LogMessage"], dict)}


def test_ports_of_the_settings_stay_with_the_first_use_case_and_others_keep_theirs(tmp_path):
    """Without a host: what ``ports.json`` says when a setting has changed since."""
    stack = Host(tmp_path).stack
    addresses = Addresses(stack)
    addresses.assign("first")
    second = addresses.assign("second")
    assert addresses.assign("second") == second
    moved = Host(tmp_path).stack
    assert Addresses(moved).assigned() == {
        "first": {"staging": moved.ports.staging, "production": moved.ports.production},
        "second": second,
    }
    assert list(json.loads(addresses.file.read_text())) == ["first", "second"]
