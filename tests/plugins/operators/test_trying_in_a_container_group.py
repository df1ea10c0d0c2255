"""An image is tried in a container group: what is asked of Azure, what the release hears, and that nothing stays."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.connection import Connection
from airflow.providers.microsoft.azure.hooks.container_instance import AzureContainerInstanceHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from lifecycle import settings
from lifecycle.operators.group_step import MARK
from lifecycle.operators.release_step import ScoringStepOperator
from tests.support import container_instances
from tests.support.airflow import USE_CASE, make_settings
from tests.support.container_instances import PLACE, printed, report
from tests.support.image_names import image

IMAGE, REPOSITORY = image("ab", "registry.example/attrition-scoring"), "registry.example/attrition-scoring"
ROOT = Path(__file__).resolve().parents[3]
WHERE = "in a container group of qa (westeurope)"


def passed():
    return {**report(), "where": WHERE}


@pytest.fixture
def azure(connections, monkeypatch):
    """The double, with a verifier that has been content."""
    release = settings.Release(qa="aci", qa_seconds=20)
    found = make_settings({"other_repositories": [REPOSITORY]}, release=release)
    monkeypatch.setattr(settings, "load", lambda: found)
    extra = json.dumps(PLACE)
    connections["scoring_qa"] = Connection(conn_id="scoring_qa", conn_type="azure_container_instance", extra=extra)
    connections["registry"] = Connection(conn_id="registry", conn_type="azure", host="registry.example")
    with container_instances.running() as double:
        container_instances.lead_to(double, monkeypatch)
        yield double


class Instance:
    dag_id, run_id, task_id, map_index = "attrition_release", "r1", "try_image", -1

    def __init__(self):
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value


def operator(given=IMAGE):
    return ScoringStepOperator(
        task_id="try_image", use_case=USE_CASE, target="staging", step="try", image=given, version="7"
    )


def tried(instance=None, given=IMAGE):
    return operator(given).execute({"ti": instance or Instance()})


def test_image_that_passes_is_reported_and_its_group_is_gone(azure):
    instance = Instance()
    assert tried(instance) == passed()
    assert instance.pushed == {"return_value": passed()}
    assert azure.groups == {}
    (name,) = azure.made()
    assert name.startswith("attrition-release-try-staging-")
    assert azure.calls[-1] == ("DELETE", name)


def test_group_is_server_and_verifier_of_the_one_image_with_a_key_of_their_own(azure):
    seen = {}
    azure.before = lambda method, name: seen.update(azure.groups)
    tried()
    (group,) = seen.values()
    properties = group["properties"]
    server, verifier = properties["containers"]
    assert [one["properties"]["image"] for one in (server, verifier)] == [IMAGE, IMAGE]
    assert "command" not in server["properties"], "the image's own"
    variables = {one["name"]: one for one in verifier["properties"]["environmentVariables"]}
    key = variables["LIFECYCLE_API_KEY"]["secureValue"]
    (volume,) = properties["volumes"]
    keys = json.loads(base64.b64decode(volume["secret"]["api-keys.json"]))
    assert keys == {"release": hashlib.sha256(key.encode()).hexdigest()}
    assert "serving.verify server http://127.0.0.1:8080" in verifier["properties"]["command"][2]
    assert properties["imageRegistryCredentials"] == [
        {"server": "registry.example", "identity": PLACE["pull_identity"]}
    ]
    assert group["identity"] == {"type": "UserAssigned", "userAssignedIdentities": {PLACE["pull_identity"]: {}}}
    assert "ipAddress" not in properties, "nobody reaches it from outside"
    assert (group["location"], properties["restartPolicy"]) == ("westeurope", "Never")
    assert key not in json.dumps(properties["containers"][0])


def test_failed_check_is_the_releases_end_and_names_it(azure):
    azure.output["verifier"] = printed(report(ready=True, golden=False))
    instance = Instance()
    with pytest.raises(AirflowFailException, match=r"trying the image failed:\ngolden: seen\ngolden answers: "):
        tried(instance)
    assert instance.pushed["return_value"]["passed"] is False
    assert azure.groups == {}


def test_server_that_ends_by_itself_is_the_releases_end(azure):
    azure.states.update(server="Terminated", verifier="Running")
    azure.output["server"] = "the scoring server does not start: SCORING_X"
    with pytest.raises(AirflowFailException, match="ended by itself:\nthe scoring server does not start"):
        tried()
    assert azure.groups == {}


@pytest.mark.parametrize("output", ["", "Traceback", f"{MARK}\n", f'{MARK}\n{{"passed": tr'])
def test_verifier_without_a_report_is_told_with_its_last_words(azure, output):
    azure.output["verifier"] = output
    with pytest.raises(AirflowFailException) as told:
        tried()
    assert str(told.value).endswith(f"stopped without a report:\n{output}")
    assert azure.groups == {}


def test_output_that_comes_late_is_waited_for(azure):
    late = iter(["", f"{MARK}\n{{", printed(report())])
    azure.before = lambda method, name: azure.output.update(verifier=next(late)) if _reads(azure) else None
    assert tried() == passed()


def _reads(azure):
    return azure.calls[-1][0] == "GET" and azure.groups and len(azure.calls) > 3


def test_group_that_somebody_else_removes_is_another_tries_task_and_no_endless_loop(azure):
    azure.states["verifier"] = "Running"
    polls = []

    def vanish(method, name):
        polls.append(method)
        if len(polls) == 6:
            azure.groups.clear()

    azure.before = vanish
    with pytest.raises(AirflowException, match="was removed by somebody else") as told:
        tried()
    assert not isinstance(told.value, AirflowFailException), "another try may help"
    azure.states["verifier"] = "Terminated"
    assert tried() == passed()


QUOTA = (
    409,
    "ContainerGroupQuotaReached",
    "Resource type 'Microsoft.ContainerInstance/containerGroups' quota 100 is reached",
)


def test_quota_is_told_in_azures_own_words_and_another_tries_task(azure):
    azure.refuse["PUT"] = QUOTA
    with pytest.raises(AirflowException, match=r"ContainerGroupQuotaReached: .*quota 100 is reached") as told:
        tried()
    assert not isinstance(told.value, AirflowFailException)
    azure.refuse.clear()
    assert tried() == passed()
    assert azure.groups == {}


def test_image_that_cannot_be_pulled_is_told_with_azures_events(azure):
    azure.provisioning = "Failed"
    azure.events = [{"name": "Failed", "message": "Failed to pull image: unauthorized"}]
    with pytest.raises(AirflowException, match="did not start:\nFailed: Failed to pull image: unauthorized"):
        tried()
    assert azure.groups == {}
    azure.provisioning = "Succeeded"
    assert tried() == passed()


def test_group_that_does_not_come_to_its_end_is_removed_after_the_time_that_it_has(azure, monkeypatch):
    short = make_settings({"other_repositories": [REPOSITORY]}, release=settings.Release(qa="aci", qa_seconds=1))
    monkeypatch.setattr(settings, "load", lambda: short)
    azure.states["verifier"] = "Running"
    with pytest.raises(AirflowException, match=r"no report of .* within 1 s \(qa_seconds of \[release\]\)"):
        tried()
    assert azure.groups == {}


def test_azure_that_does_not_answer_is_another_tries_task(azure, monkeypatch):
    monkeypatch.setattr(AzureContainerInstanceHook, "get_conn", lambda _: container_instances.client(1))
    with pytest.raises(AirflowException, match="Azure refuses attrition-release-try-staging-"):
        tried()


def _calls_of_a_success(azure):
    tried()
    count = len(azure.calls)
    azure.calls.clear()
    return count


def _killed_at(azure, call):
    with container_instances.killed_at(azure, call):
        tried()


@pytest.mark.parametrize("call", range(1, 7))
def test_killed_at_every_request_the_next_try_goes_on_and_nothing_stays(azure, call):
    """list, get, create, get, output, removal."""
    assert _calls_of_a_success(azure) == 6
    _killed_at(azure, call)
    there = len(azure.groups)
    assert there == (1 if call > 3 else 0)
    azure.calls.clear()
    assert tried() == passed()
    assert len(azure.made()) == 1 - there, "a group that is there is gone on with"
    assert azure.groups == {}


def test_task_that_is_ended_takes_its_group_along(azure):
    ended = operator()

    def end(method, name):
        if len(azure.calls) == 5:
            ended.on_kill()

    azure.states["verifier"] = "Running"
    azure.before = end
    with pytest.raises(AirflowException, match="removed by somebody else"):
        ended.execute({"ti": Instance()})
    assert azure.groups == {}


def test_group_of_a_release_that_never_came_back_is_removed_by_the_next(azure):
    _killed_at(azure, 5)
    (left,) = azure.groups
    azure.groups["somebody-elses"] = {**azure.groups[left], "name": "somebody-elses", "tags": {"team": "x"}}
    later = Instance()
    later.run_id = "r2"
    assert tried(later) == passed()
    assert list(azure.groups) == ["somebody-elses"]


def test_group_of_an_earlier_image_is_made_anew(azure):
    _killed_at(azure, 5)
    assert tried(given=image("cd", REPOSITORY)) == passed()
    assert len(azure.made()) == 2
    assert azure.groups == {}


def test_group_that_cannot_be_removed_is_told_and_the_next_try_removes_it(azure):
    azure.refuse["DELETE"] = (409, "Conflict", "busy")
    with pytest.raises(AirflowException, match="could not be removed, and goes on costing money"):
        tried()
    azure.refuse.clear()
    assert tried() == passed()
    assert (len(azure.made()), azure.groups) == (1, {})


@pytest.mark.parametrize(
    ("changed", "given", "reason"),
    [
        ({"conn_type": "kubernetes"}, IMAGE, "has type 'kubernetes': use azure_container_instance"),
        ({"extra": "{}"}, IMAGE, "missing required field `resource_group`"),
        ({}, image("ab", "evil.example/backdoor"), "qa refuses the image evil.example/backdoor"),
        ({}, "sha256:" + "ab" * 32, "pulls its image from a registry"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_is_made(azure, connections, changed, given, reason):
    values = {"conn_type": "azure_container_instance", "extra": json.dumps(PLACE), **changed}
    connections["scoring_qa"] = Connection(conn_id="scoring_qa", **values)
    with pytest.raises(AirflowFailException) as told:
        tried(given=given)
    assert reason in str(told.value)
    assert azure.calls == []


@pytest.mark.parametrize("qa", ["aci", ""])
def test_release_tries_images_only_where_the_settings_say_so(monkeypatch, qa):
    found = make_settings(release=settings.Release(qa=qa))
    monkeypatch.setattr(settings, "load", lambda: found)
    bag = DagBag(str(ROOT / "dags" / "release.py"), collect_dags=True)
    assert bag.import_errors == {}
    dag = bag.dags["attrition_release"]
    before_staging = dag.get_task("deploy_staging").get_flat_relative_ids(upstream=True)
    assert ("try_image" in before_staging) is bool(qa)
    assert not qa or "build_image" in dag.get_task("try_image").upstream_task_ids
