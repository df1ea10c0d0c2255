"""Images are signed in cosign's format: what counts, and all that does not."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.image_reference import ImageReference
from lifecycle.signing import image as signature
from lifecycle.signing.image import Entry
from tests.support.image_names import digest, image
from tests.support.signing import make_key
from training.signing.keys import SignatureError

IMAGES = {
    "registry": ImageReference.parse(image("aa")),
    "engine": ImageReference.parse(digest("aa")),
    "folder": ImageReference.parse(f"/home/images/v3-0123@{digest('aa')}"),
}
OURS = IMAGES["registry"]
OF = ("employee_attrition", "3")


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return make_key(tmp_path_factory.mktemp("keys"), "builds")


@pytest.mark.parametrize("kind", list(IMAGES))
def test_signed_image_is_taken_and_told_who_has_signed_it(held, kind):
    entry = signature.sign(IMAGES[kind], *OF, held.key)
    assert signature.check(IMAGES[kind], *OF, [entry], [held.listed]) == held.listed


def test_payload_is_what_cosign_signs(held):
    assert json.loads(signature.sign(OURS, *OF, held.key).payload) == {
        "critical": {
            "identity": {"docker-reference": "registry.example.com/attrition-scoring"},
            "image": {"docker-manifest-digest": digest("aa")},
            "type": "cosign container image signature",
        },
        "optional": {"lifecycle.model": "employee_attrition", "lifecycle.version": "3"},
    }
    assert signature.tag(OURS.digest) == f"sha256-{'aa' * 32}.sig"


def test_folder_may_have_moved_with_its_signature(held):
    entry = signature.sign(IMAGES["folder"], *OF, held.key)
    moved = ImageReference.parse(f"/elsewhere/v3-0123@{digest('aa')}")
    assert signature.check(moved, *OF, [entry], [held.listed]) == held.listed


OTHERS = {
    "another image": (image("bb"), OF, "its signature is that of sha256:bb"),
    "another repository": (
        image("aa", "registry.example.com/other"),
        OF,
        "for registry.example.com/other, and this is",
    ),
    "another version": (image("aa"), ("employee_attrition", "4"), "for version 4 of employee_attrition"),
    "another model": (image("aa"), ("demand", "3"), "for version 3 of demand"),
}


@pytest.mark.parametrize("other", list(OTHERS))
def test_signature_that_is_about_something_else_is_refused(held, other):
    text, of, why = OTHERS[other]
    entry = signature.sign(ImageReference.parse(text), *of, held.key)
    with pytest.raises(SignatureError, match=why):
        signature.check(OURS, *OF, [entry], [held.listed])


def test_image_without_a_signature_of_a_listed_key_is_refused(held, tmp_path):
    with pytest.raises(SignatureError, match="it has no signature"):
        signature.check(OURS, *OF, [], [held.listed])
    foreign = signature.sign(OURS, *OF, make_key(tmp_path, "mallory").key)
    with pytest.raises(SignatureError, match=r"none of the keys listed in image_keys of \[signing\] \(builds \(key"):
        signature.check(OURS, *OF, [foreign], [held.listed])
    sound = signature.sign(OURS, *OF, held.key)
    assert signature.check(OURS, *OF, [foreign, sound], [held.listed]) == held.listed, "one of several is enough"


def test_payload_with_a_changed_byte_is_refused(held):
    sound = signature.sign(OURS, "employee_attrition", "4", held.key)
    changed = Entry(sound.payload.replace(b'"4"', b'"3"'), sound.signature)
    assert changed.payload != sound.payload
    with pytest.raises(SignatureError, match="has made its signature"):
        signature.check(OURS, *OF, [changed], [held.listed])


@settings(deadline=None)
@given(payload=st.one_of(st.binary(max_size=40), st.sampled_from([b"{}", b"null", b'{"critical": {}}', b"[]"])))
def test_signed_bytes_that_are_no_payload_are_refused(held, payload):
    with pytest.raises(SignatureError, match="something else than cosign's text"):
        signature.check(OURS, *OF, [Entry(payload, held.key.sign(payload))], [held.listed])


@given(text=st.text(max_size=20))
def test_text_beside_a_payload_is_a_signature_or_none(text):
    entry = Entry.read(b"payload", text)
    assert entry is None or isinstance(entry.signature, bytes)
