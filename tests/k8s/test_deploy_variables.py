"""What ``k8s/deploy.sh`` takes as an image: the same as Airflow, for the script travels in images."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.image_reference import ImageReference, ImageReferenceError
from tests.support.image_names import digest, image

SCRIPT = Path(__file__).resolve().parents[2] / "k8s" / "deploy.sh"
SOUND = {
    "STEP": "deploy",
    "USE_CASE": "attrition",
    "NAMESPACE": "attrition-production",
    "TARGET": "production",
    "IMAGE": image("aa"),
    "VERSION": "3",
    "REPLICAS": "2",
    "LEAVE_OUT": "",
    "TIMEOUT": "5",
}


def bash(script: str, given_text: str = "", **variables: str) -> str:
    """What a script says that has read ``deploy.sh`` and does not run it."""
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **SOUND, **variables}
    command = ["bash", "-c", f"source {SCRIPT}; set +e; {script}"]
    found = subprocess.run(command, input=given_text, env=environment, capture_output=True, text=True, check=True)
    return found.stdout


def digests_of(texts: list[str]) -> list[str]:
    """The digest that the script reads out of each image, empty for one that it refuses."""
    loop = "while IFS= read -r IMAGE; do if read_variables; then echo $DIGEST; else echo; fi; done"
    return bash(loop, "".join(f"{text}\n" for text in texts)).splitlines()


def digest_of(text: str) -> str:
    """The same, read by Airflow; a folder is for the laptop alone."""
    try:
        found = ImageReference.parse(text)
    except ImageReferenceError:
        return ""
    return "" if found.kind == "folder" else found.digest


@st.composite
def almost_images(draw):
    """Images, and texts that differ from one in a little."""
    repository = draw(
        st.one_of(
            st.sampled_from(
                ["", "scoring", "a/b/c", "localhost:5000/a", "r.example.com/x--y__z", "a" * 255, "a" * 256]
            ),
            st.text("aZ09._-:/@", max_size=12),
        )
    )
    hexadecimal = draw(st.one_of(st.just("ab" * 32), st.text("0123456789abcdefAg", min_size=62, max_size=65)))
    text = f"{repository}@sha256:{hexadecimal}" if repository else f"sha256:{hexadecimal}"
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(["", "@", "/", " ", '"', ":", "é", "A", "-", "$(id)"])) + text[at:]
    return text


@settings(max_examples=12, deadline=None)
@given(st.lists(almost_images(), min_size=40, max_size=60))
def test_script_and_airflow_read_the_same_digest_out_of_the_same_images(texts):
    assert digests_of(texts) == [digest_of(text) for text in texts]


@pytest.mark.parametrize("text", [image("aa"), digest("ab"), "localhost:5000/x@" + digest("00")])
def test_digest_is_read_out_of_the_image(text):
    assert digests_of([text]) == [digest_of(text)] == [text[-71:]]


def test_digest_beside_the_image_is_not_heard():
    """Once an approved digest let another image through: the script was given both and compared nothing."""
    script = "read_variables; echo $DIGEST"
    assert bash(script, IMAGE=image("ee", "evil.example/backdoor"), DIGEST=digest("aa")).strip() == digest("ee")


@pytest.mark.tools("kubectl")
def test_rendered_annotation_is_the_digest_of_the_rendered_image(tmp_path):
    copy = f"cp -R {SCRIPT.parent} {tmp_path}/k8s; cd {tmp_path}/k8s"
    text = bash(f"{copy}; read_variables; render; cat rendered.yaml", IMAGE=image("ee"), DIGEST=digest("aa"))
    assert f"lifecycle/digest: {digest('ee')}" in text
    assert f"image: {image('ee')}" in text
    assert digest("aa") not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IMAGE", "registry.example.com/scoring:v3"),
        ("IMAGE", f"/images/v3@{digest('aa')}"),
        ("IMAGE", f"{image('aa')}\nX: y"),
        ("IMAGE", ""),
        ("VERSION", '3", x: "y'),
        ("USE_CASE", "a b"),
        ("NAMESPACE", "x}"),
        ("REPLICAS", "2, name: x"),
    ],
)
def test_variable_that_is_not_one_is_refused_and_named(name, value):
    said = bash('read_variables || echo "$WHY"', **{name: value})
    assert said.startswith(f"{name} is '{value}': give ")


@pytest.mark.tools("jq")
def test_refusal_changes_nothing_and_is_the_report(tmp_path):
    environment = {
        **os.environ,
        **SOUND,
        "IMAGE": "scoring:latest",
        "REPORT": f"{tmp_path}/r",
        "TERMINATION": f"{tmp_path}/t",
    }
    # No kubectl: nothing is asked of the cluster.
    (tmp_path / "kubectl").write_text("#!/bin/sh\necho $* >>$0.called\n")
    (tmp_path / "kubectl").chmod(0o755)
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    found = subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "REFUSED: IMAGE is 'scoring:latest'" in found.stdout
    assert '"passed": false' in (tmp_path / "r").read_text()
    assert "nothing was changed" in (tmp_path / "t").read_text()
    assert not (tmp_path / "kubectl.called").exists()
