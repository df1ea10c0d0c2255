"""Evidence of earlier releases: documents that held an image and its digest as two texts are read as one image."""

import json

import msgspec
import pytest

from lifecycle.evidence import document as evidence
from tests.support.image_names import digest, image


def stored(reference=None, replaced=None, version=1, **image_fields):
    """A document as 0.1.0 stored it."""
    texts = ("key", "dag_id", "run_id", "requested_by", "requested_at")
    about = ("name", "version", "training_run_id", "data_digest", "git_revision", "verdict")
    found = {
        "schema_version": version,
        "release": dict.fromkeys(texts, "x"),
        "model": dict.fromkeys(about, "x"),
        "evaluation": {},
        "image": {"reference": reference, "digest": digest("ab"), "sbom_digest": "x", **image_fields},
        "staging_report": {},
        "replaces": replaced,
    }
    return json.dumps(found)


KEPT = {
    "registry": (image("ab"), image("ab")),
    "folder": ("/images/v3-0123", f"/images/v3-0123@{digest('ab')}"),
    "engine": ("attrition-scoring:v3-0123-abababababab", digest("ab")),
}


@pytest.mark.parametrize(("reference", "expected"), KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("version", [1, 2])
def test_earlier_document_is_read_as_one_image(reference, expected, version):
    replaced = {"version": "1", "image": image("cd"), "digest": digest("cd")}
    found = evidence.decode(stored(reference, replaced, version))
    assert (found.image.reference, found.image.content.digest) == (expected, digest("ab"))
    assert found.replaces == evidence.Running(version="1", image=image("cd"))
    assert evidence.decode(evidence.encode(found)) == found, "it is stored as a document of today"


@pytest.mark.parametrize(
    "reference", [image("ee", "evil.example/backdoor"), digest("ee"), "scoring:v3", "scoring", 7, None]
)
def test_earlier_document_whose_image_is_not_that_of_its_digest_is_refused(reference):
    """Evidence that was edited in MLflow: the approved digest stayed, and the image was another one."""
    with pytest.raises(msgspec.ValidationError):
        evidence.decode(stored(reference))


def test_earlier_document_of_which_the_replaced_image_disagrees_is_refused():
    with pytest.raises(msgspec.ValidationError, match="not the same image"):
        evidence.decode(stored(image("ab"), {"version": "1", "image": image("cd"), "digest": digest("ce")}))


@pytest.mark.parametrize("reference", ["scoring:v3", "", image("ab")[:-1]])
def test_document_of_today_whose_image_names_no_content_is_refused(reference):
    with pytest.raises(msgspec.ValidationError, match="give repository@sha256"):
        evidence.decode(stored(reference, version=evidence.SCHEMA_VERSION))


@pytest.mark.parametrize("text", ["[]", "{}", '{"schema_version": "1"}', "7"])
def test_other_json_is_no_evidence(text):
    with pytest.raises(msgspec.ValidationError):
        evidence.decode(text)
