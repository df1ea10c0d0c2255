"""What once let an unapproved image into production under an approved digest, step by step, and what stops it now."""

import pytest
from airflow.models.connection import Connection
from airflow.sdk.exceptions import AirflowFailException

from lifecycle.evidence import document as evidence
from lifecycle.hooks import registry, targets
from lifecycle.image_reference import ImageReference
from lifecycle.operators.steps import Work, refuse_unapproved
from tests.support.airflow import USE_CASE
from tests.support.image_names import digest, image
from tests.support.scoring_steps import context, make

GOOD, EVIL = image("aa"), image("ee", "evil.example/backdoor")
MOVED = image("aa", "evil.example/backdoor")
"""The approved content under another repository."""


def read_approved(use_case, version, found):
    if found.digest != digest("aa"):
        raise registry.RegistryError(f"version {version} was never approved for production with image {found}")


@pytest.fixture(autouse=True)
def cluster(connections, monkeypatch):
    """Production in a cluster, a registry, and one approved image; what reaches the cluster is kept."""
    connections["scoring_production"] = Connection(conn_id="scoring_production", conn_type="kubernetes")
    connections["registry"] = Connection(conn_id="registry", conn_type="docker", host="registry.example.com")
    monkeypatch.setattr(registry, "resolve", lambda use_case, version: version)
    monkeypatch.setattr(evidence, "read_approved", read_approved)
    monkeypatch.setattr(targets, "current", lambda use_case, target: {"image": GOOD, "version": "2"})
    sent = []
    monkeypatch.setattr(
        "airflow.providers.cncf.kubernetes.operators.pod.KubernetesPodOperator.execute",
        lambda self, now: sent.append({variable.name: variable.value for variable in self.env_vars}),
    )
    return sent


def work(step, text):
    return Work(USE_CASE, step, "production", ImageReference.parse(text), "3", "key")


@pytest.mark.parametrize("approved", [GOOD, MOVED, digest("aa")])
def test_approval_of_an_image_lets_no_other_image_through(approved):
    with pytest.raises(AirflowFailException, match=f"production refuses {EVIL}"):
        refuse_unapproved(work("deploy", EVIL), ImageReference.parse(approved), None)


def test_step_is_given_no_digest_beside_its_image(cluster):
    with pytest.raises(TypeError, match="digest"):
        make("deploy", "production", image=EVIL, digest=digest("aa"))
    operator = make("deploy", "production", image=GOOD, approved_image=GOOD)
    operator.execute(context(operator))
    (variables,) = cluster
    assert variables["IMAGE"] == GOOD
    assert "DIGEST" not in variables


@pytest.mark.parametrize("step", ["deploy", "canary", "watch", "verify", "restore"])
@pytest.mark.parametrize("text", [EVIL, MOVED, digest("aa"), f"/images/v3@{digest('aa')}"])
def test_cluster_with_a_registry_runs_the_listed_repositories_alone(cluster, step, text):
    """``MOVED`` has the approved digest, and its approval where the step asks for one."""
    operator = make(step, "production", image=text, approved_image=text)
    with pytest.raises(AirflowFailException, match="production refuses"):
        operator.execute(context(operator))
    assert cluster == []


def test_further_repositories_are_those_of_the_settings(cluster, monkeypatch):
    from lifecycle import settings
    from tests.support.airflow import make_settings

    configured = make_settings({"other_repositories": ["evil.example/backdoor"]})
    monkeypatch.setattr(settings, "load", lambda: configured)
    operator = make("deploy", "production", image=MOVED, approved_image=MOVED)
    operator.execute(context(operator))
    assert cluster[0]["IMAGE"] == MOVED


@pytest.mark.parametrize(
    ("text", "taken"), [(digest("aa"), True), (GOOD, False), (f"/images/v3@{digest('aa')}", False)]
)
def test_cluster_without_a_registry_runs_images_of_its_engine_alone(connections, cluster, text, taken):
    connections["registry"] = Connection(conn_id="registry", conn_type="docker")
    operator = make("deploy", "production", image=text, approved_image=text)
    if taken:
        operator.execute(context(operator))
    else:
        with pytest.raises(AirflowFailException, match="it takes an engine's image id"):
            operator.execute(context(operator))
    assert len(cluster) == taken


@pytest.mark.parametrize("text", [GOOD, digest("aa")])
def test_scoring_host_runs_folders_alone(connections, text):
    connections["scoring_production"] = Connection(conn_id="scoring_production", conn_type="gunicorn")
    operator = make("deploy", "production", image=text, approved_image=text)
    with pytest.raises(AirflowFailException, match="production runs folders of this machine"):
        operator.execute(context(operator))


@pytest.mark.parametrize("text", ["registry.example.com/attrition-scoring:v3", "scoring@sha256:aa", ""])
def test_text_that_is_no_image_goes_nowhere(cluster, text):
    operator = make("deploy", "production", image=text, approved_image=GOOD)
    with pytest.raises(AirflowFailException, match=r"give repository@sha256|was given no image"):
        operator.execute(context(operator))
    assert cluster == []


def test_way_back_does_not_fail_because_of_what_runs(cluster, monkeypatch):
    def unknown(use_case, target):
        raise targets.TargetError("somebody set an image by hand")

    monkeypatch.setattr(targets, "current", unknown)
    operator = make("restore", "production", image=GOOD)
    operator.execute(context(operator))
    assert cluster[0]["IMAGE"] == GOOD


BEFORE, LATER = image("0a"), image("cc")
"""What ran before the release of ``GOOD``, and what a later one has brought into production."""
CHANGES = {"deploy": (GOOD, BEFORE), "canary": (GOOD, BEFORE), "restore": (BEFORE, GOOD)}
"""By step, as the release DAG has it: the image, and what it replaces."""


def cleared(monkeypatch, step, running):
    """A task of the release of ``GOOD``, as it runs where production runs this."""
    monkeypatch.setattr(evidence, "read_approved", lambda use_case, version, found: None)
    monkeypatch.setattr(targets, "current", lambda use_case, target: running and {"image": running, "version": "4"})
    text, replaces = CHANGES[step]
    operator = make(step, "production", image=text, approved_image=text, replaces=replaces)
    operator.execute(context(operator))


@pytest.mark.parametrize("step", CHANGES)
def test_cleared_task_of_an_old_release_leaves_what_a_later_one_has_brought(cluster, monkeypatch, step):
    """Clearing ``verify_production`` of a release of last month failed it, and put back what ran before that."""
    with pytest.raises(AirflowFailException, match=f"production runs {LATER} by now.*Trigger a new run"):
        cleared(monkeypatch, step, LATER)
    assert cluster == []


@pytest.mark.parametrize("running", [GOOD, BEFORE, None], ids=["its own", "what it replaces", "nothing"])
@pytest.mark.parametrize("step", CHANGES)
def test_task_of_a_release_that_is_tried_again_goes_on(cluster, monkeypatch, step, running):
    cleared(monkeypatch, step, running)
    assert cluster[0]["IMAGE"] == CHANGES[step][0]
