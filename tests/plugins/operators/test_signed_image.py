"""Every step that would run an image asks who has signed it, and refuses in words that say what to do."""

import pytest
from airflow.models.connection import Connection
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.evidence import document as evidence
from lifecycle.hooks import registry, stop_switch, targets
from lifecycle.image_reference import ImageReference
from lifecycle.signing import check
from tests.support.airflow import USE_CASE, make_settings
from tests.support.image_names import digest
from tests.support.registry_double import RegistryDouble
from tests.support.scoring_steps import SAID, context, make
from tests.support.signing import make_key, required


@pytest.fixture
def double():
    found = RegistryDouble("builder", "secret")
    yield found
    found.close()


@pytest.fixture
def image(double):
    return ImageReference(f"127.0.0.1:{double.port}/attrition-scoring", digest("aa"))


@pytest.fixture(autouse=True)
def signing(tmp_path, connections, monkeypatch, double, image):
    """Everything is approved, and nothing signed; another image runs in production."""
    configured = make_settings(signing=required(make_key(tmp_path, "training"), make_key(tmp_path, "builds")))
    monkeypatch.setattr(settings, "load", lambda: configured)
    for target in ("staging", "production"):
        connections[f"scoring_{target}"] = Connection(conn_id=f"scoring_{target}", conn_type="kubernetes")
    connections["registry"] = Connection(
        conn_id="registry", conn_type="docker", host="127.0.0.1", port=double.port, login="builder", password="secret"
    )
    monkeypatch.setattr(registry, "resolve", lambda use_case, version: version)
    monkeypatch.setattr(evidence, "read_approved", lambda use_case, version, found: None)
    monkeypatch.setattr(targets, "current", lambda *_: {"image": f"{image.place}@{digest('bb')}", "version": "2"})
    return configured


@pytest.fixture
def sent(monkeypatch):
    """The pods that reached the cluster, by their first container's image."""
    found = []
    monkeypatch.setattr(
        "airflow.providers.cncf.kubernetes.operators.pod.KubernetesPodOperator.execute",
        lambda self, now: found.append(self.labels["lifecycle/step"]),
    )
    return found


def do(step, image, target="production", **arguments):
    operator = make(step, target, image=str(image), approved_image=str(image), **arguments)
    operator.execute(context(operator))


STEPS = [("deploy", "staging"), ("verify", "staging"), ("canary", "production"), ("watch", "production"),
         ("deploy", "production"), ("restore", "staging"), ("restore", "production")]  # fmt: skip


@pytest.mark.parametrize(("step", "target"), STEPS)
def test_unsigned_image_gets_no_pod_and_the_signed_one_does(sent, image, step, target):
    with pytest.raises(
        AirflowFailException,
        match=rf"{target} refuses .*version 3 of employee_attrition is not signed: it has no signature\. Release .*"
        r"attrition_release, which builds and signs it, or .*make sign USE_CASE=attrition VERSION=3",
    ):
        do(step, image, target)
    assert sent == []
    check.sign_image(USE_CASE, image, "3")
    do(step, image, target)
    assert sent == [step]


@pytest.mark.parametrize("fault", ["another version", "another key", "another image"])
def test_image_with_a_signature_that_does_not_hold_gets_no_pod(
    sent, image, double, signing, monkeypatch, tmp_path, fault
):
    if fault == "another version":
        check.sign_image(USE_CASE, image, "2")
    elif fault == "another key":
        mallory = make_settings(signing=required(make_key(tmp_path, "mallory"), make_key(tmp_path, "mallory")))
        with monkeypatch.context() as theirs:
            theirs.setattr(settings, "load", lambda: mallory)
            check.sign_image(USE_CASE, image, "3")
    else:
        other = ImageReference(image.place, digest("cc"))
        check.sign_image(USE_CASE, other, "3")
        kept = double.manifests["attrition-scoring", f"sha256-{'cc' * 32}.sig"]
        double.manifests["attrition-scoring", f"sha256-{'aa' * 32}.sig"] = kept
    why = {"another version": "for version 2", "another key": "none of the keys", "another image": "that of sha256:cc"}
    with pytest.raises(AirflowFailException, match=f"is not signed: .*{why[fault]}"):
        do("deploy", image)
    assert sent == []


@pytest.mark.parametrize("step", ["stop", "resume"])
def test_service_is_stopped_and_resumed_whatever_has_signed_it(sent, image, step, monkeypatch):
    monkeypatch.setattr(stop_switch, "stopped", lambda use_case, target: None)
    do(step, image, said=SAID)
    assert sent == [step]


def test_what_runs_already_is_put_back_without_a_question(sent, image):
    running = f"{image.place}@{digest('bb')}"
    do("restore", running)
    assert sent == ["restore"]


def test_registry_that_does_not_answer_is_no_verdict(sent, image, double):
    double.login = double.expected = "nobody's"
    with pytest.raises(Exception, match="401") as found:
        do("deploy", image)
    assert not isinstance(found.value, AirflowFailException), "the task is tried again"
    assert sent == []


def test_where_signatures_are_not_required_the_log_says_what_is_missing(sent, image, signing, monkeypatch, caplog):
    lenient = settings.Signing(required=False, image_keys=signing.signing.image_keys)
    monkeypatch.setattr(settings, "load", lambda: make_settings(signing=lenient))
    do("deploy", image)
    assert sent == ["deploy"]
    assert "is not signed: it has no signature" in caplog.text
