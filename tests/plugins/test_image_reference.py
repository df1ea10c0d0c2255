"""Image and digest are one value: which texts name an image by its content, and what 0.1.0 kept as two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.image_reference import ImageReference, ImageReferenceError
from tests.support.image_names import digest, image

KINDS = {
    "registry": image("ab", "registry.example.com:5000/team/attrition-scoring"),
    "engine": digest("ab"),
    "folder": f"/home/someone's images/v3-0123456789ab@{digest('ab')}",
}


@pytest.mark.parametrize(("kind", "text"), KINDS.items(), ids=KINDS)
def test_image_of_each_kind_is_read_and_written_and_tells_its_digest(kind, text):
    found = ImageReference.parse(text)
    assert (found.kind, found.digest, str(found)) == (kind, digest("ab"), text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "scoring",
        "scoring:v3",
        "registry.example.com/scoring:v3",
        f"registry.example.com/scoring:v3@{digest('ab')}",
        f"@{digest('ab')}",
        f"a@b@{digest('ab')}",
        f"Scoring@{digest('ab')}",
        f"relative/../folder@{digest('ab')}",
        f"/folder\n@{digest('ab')}",
        "/folder",
        digest("ab")[:-1],
        digest("ab").upper(),
        f"{digest('ab')}\n",
        f"sha512:{'ab' * 32}",
        f"{'a' * 256}@{digest('ab')}",
    ],
)
def test_text_that_does_not_say_what_the_content_is_is_refused_with_what_is_allowed(text):
    with pytest.raises(ImageReferenceError, match=r"give repository@sha256:\.\.\."):
        ImageReference.parse(text)


def test_value_that_no_text_gives_cannot_be_made():
    with pytest.raises(ImageReferenceError):
        ImageReference("registry.example.com/scoring", "sha256:ab")
    with pytest.raises(ImageReferenceError):
        ImageReference(f"scoring@{digest('cd')}", digest("ab"))


@given(st.text("abz09@:/.-_Z \n", max_size=12), st.text("0123456789abcdefA", min_size=63, max_size=65))
def test_what_is_read_is_written_again_and_its_digest_is_its_end(place, hexadecimal):
    text = f"{place}sha256:{hexadecimal}"
    try:
        found = ImageReference.parse(text)
    except ImageReferenceError:
        return
    assert str(found) == text
    assert text.endswith(found.digest)
    assert len(found.digest) == 71


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        pytest.param(image("ab"), image("ab"), id="registry"),
        pytest.param("/images/v3-0123", f"/images/v3-0123@{digest('ab')}", id="folder"),
        pytest.param("attrition-scoring:v3-0123-abababababab", digest("ab"), id="tag with the engine's id"),
        pytest.param(digest("ab"), digest("ab"), id="engine's id"),
    ],
)
def test_pair_of_0_1_0_is_read_as_one_image(reference, expected):
    assert str(ImageReference.parse_pair(reference, digest("ab"))) == expected


@pytest.mark.parametrize(
    "reference",
    [
        image("ee", "evil.example/backdoor"),
        f"/images/v3@{digest('ee')}",
        "scoring:v3-0123-eeeeeeeeeeee",
        "scoring:v3",
        digest("ee"),
    ],
)
def test_pair_that_names_two_images_is_refused(reference):
    with pytest.raises(ImageReferenceError):
        ImageReference.parse_pair(reference, digest("ab"))


@given(st.text("0123456789abcdef", min_size=64, max_size=64), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_no_pair_gives_an_image_of_another_digest(named, beside):
    for reference in (f"r.example.com/scoring@sha256:{named}", f"sha256:{named}", f"scoring:v3-0-{named[:12]}"):
        try:
            found = ImageReference.parse_pair(reference, f"sha256:{beside}")
        except ImageReferenceError:
            continue
        assert found.digest == f"sha256:{beside}"
        assert reference.endswith((found.digest, beside[:12]))
