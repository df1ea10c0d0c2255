"""What Airflow says that a target runs: the image of the pods themselves."""

from types import SimpleNamespace

import pytest
from airflow.models.connection import Connection
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

from lifecycle.hooks import targets
from tests.support.airflow import USE_CASE
from tests.support.image_names import digest, image


@pytest.fixture
def current(connections, monkeypatch):
    """What ``targets.current`` says of a deployment whose pods run this image."""
    connections["scoring_production"] = Connection(conn_id="scoring_production", conn_type="kubernetes")

    def of(running, **annotations):
        container = SimpleNamespace(image=running)
        pod = SimpleNamespace(spec=SimpleNamespace(containers=[container]))
        deployment = SimpleNamespace(
            metadata=SimpleNamespace(annotations={f"lifecycle/{name}": value for name, value in annotations.items()}),
            spec=SimpleNamespace(template=pod),
        )
        client = SimpleNamespace(read_namespaced_deployment=lambda name, namespace: deployment)
        monkeypatch.setattr(KubernetesHook, "apps_v1_client", client)
        return targets.current(USE_CASE, "production")

    return of


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        pytest.param(image("ab"), image("ab"), id="of a registry"),
        pytest.param(digest("ab"), digest("ab"), id="of an engine"),
        pytest.param("scoring:v3-0123-abababababab", digest("ab"), id="of an engine, rolled out by 0.1.0"),
    ],
)
def test_running_image_is_one_text(current, running, expected):
    assert current(running, digest=digest("ab"), version="3") == {"image": expected, "version": "3"}


@pytest.mark.parametrize("running", [image("ee", "evil.example/backdoor"), digest("ee"), "scoring:latest"])
def test_image_that_somebody_set_by_hand_is_not_taken_for_the_released_one(current, running):
    with pytest.raises(targets.TargetError, match=r"which no release rolled out .*rollback DAG"):
        current(running, digest=digest("ab"), version="3", image=image("ab"))
