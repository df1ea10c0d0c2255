"""Bundles are signed in the OpenSSF model signing format: what counts, and all that does not."""

import base64
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.signing import make_key
from training.signing import bundle
from training.signing.keys import SignatureError, VerificationKey

OFFICIAL = Path(__file__).with_name("official")
"""A folder, and its signature by the package ``model_signing`` (README.md says how it was made)."""
NAME = bundle.subject("employee_attrition", "run-1")
FILES = {"contract.json": b"{}", "classifier.onnx": b"weights", "sub/golden.json": b"[1]"}


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return make_key(tmp_path_factory.mktemp("keys"), "training")


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "bundle", FILES)


def test_signed_bundle_is_taken_and_told_who_has_signed_it(folder, held, tmp_path):
    other = make_key(tmp_path, "other")
    signature = bundle.sign(folder, NAME, held.key)
    assert bundle.check(folder, NAME, signature, [other.listed, held.listed]) == held.listed
    document = json.loads(signature)
    assert document["verificationMaterial"] == {"publicKey": {"hint": held.listed.id}, "tlogEntries": []}


CHANGES = {
    "a changed byte": ({**FILES, "classifier.onnx": b"Weights"}, "changed: classifier.onnx"),
    "an extra file": ({**FILES, "sub/more.py": b""}, "not signed: sub/more.py"),
    "an extra hidden file": ({**FILES, ".git/config": b""}, "not signed: .git/config"),
    "a missing file": ({k: v for k, v in FILES.items() if k != "contract.json"}, "missing: contract.json"),
    "many": ({f"f{number}": b"" for number in range(9)}, r"not signed: f0, f1, f2 and 6 more"),
}


@pytest.mark.parametrize("files", list(CHANGES))
def test_other_files_are_refused_by_name(folder, held, tmp_path, files):
    changed, told = CHANGES[files]
    signature = bundle.sign(folder, NAME, held.key)
    with pytest.raises(SignatureError, match=f"not those that training has signed: .*{told}"):
        bundle.check(write(tmp_path / "changed", changed), NAME, signature, [held.listed])


def test_signature_of_another_version_is_refused_although_the_files_are_the_same(folder, held):
    signature = bundle.sign(folder, bundle.subject("employee_attrition", "run-2"), held.key)
    with pytest.raises(SignatureError, match=r"that of employee_attrition/run-2, and this is employee_attrition/run-1"):
        bundle.check(folder, NAME, signature, [held.listed])


def test_signature_of_another_key_is_refused_with_those_that_count(folder, held, tmp_path):
    signature = bundle.sign(folder, NAME, make_key(tmp_path, "mallory").key)
    with pytest.raises(
        SignatureError, match=r"none of the keys .*training \(key [0-9a-f]{12}\).* has made its signature"
    ):
        bundle.check(folder, NAME, signature, [held.listed])
    with pytest.raises(SignatureError, match=r"\(none\)"):
        bundle.check(folder, NAME, signature, [])


def test_statement_that_was_changed_after_it_was_signed_is_refused(folder, held):
    document = json.loads(bundle.sign(folder, NAME, held.key))
    payload = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    payload["predicate"]["resources"] = []
    document["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    with pytest.raises(SignatureError, match="has made its signature"):
        bundle.check(folder, NAME, json.dumps(document), [held.listed])


def signed_statement(held, change):
    """A signature of our key over a statement of another form."""
    with tempfile.TemporaryDirectory() as scratch:
        document = json.loads(bundle.sign(write(Path(scratch), FILES), NAME, held.key))
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    signature = base64.b64encode(held.key.sign(bundle.authenticated(payload))).decode()
    document["dsseEnvelope"] |= {"payload": base64.b64encode(payload).decode(), "signatures": [{"sig": signature}]}
    return json.dumps(document)


FORMS = {
    "two subjects": lambda found: found["subject"].append(found["subject"][0]),
    "no subject": lambda found: found["subject"].clear(),
    "another predicate": lambda found: found.update(predicateType="https://slsa.dev/provenance/v1"),
    "another statement": lambda found: found.update(_type="other"),
    "another digest of all": lambda found: found["subject"][0].update(digest={"sha256": "00" * 32}),
    "no digest of all": lambda found: found["subject"][0].update(digest={}),
    "digest that is not hexadecimal": lambda found: found["predicate"]["resources"][0].update(digest="zz"),
    "a file twice": lambda found: found["predicate"]["resources"].append(found["predicate"]["resources"][0]),
    "another algorithm": lambda found: found["predicate"]["resources"][0].update(algorithm="blake3"),
    "shards": lambda found: found["predicate"]["serialization"].update(method="shards"),
    "no predicate": lambda found: found.pop("predicate"),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_statement_of_another_form_is_refused_although_it_is_signed(folder, held, form):
    with pytest.raises(SignatureError):
        bundle.check(folder, NAME, signed_statement(held, FORMS[form]), [held.listed])
    assert bundle.check(folder, NAME, signed_statement(held, lambda found: None), [held.listed]) == held.listed


def test_link_in_a_bundle_is_refused(folder, held):
    (folder / "link.onnx").symlink_to(folder / "classifier.onnx")
    with pytest.raises(SignatureError, match=r"files and no links, and this one has link\.onnx"):
        bundle.sign(folder, NAME, held.key)


names = st.lists(
    st.from_regex(r"[a-z0-9._-]{1,8}", fullmatch=True).filter(lambda part: part.strip(".")), min_size=1, max_size=2
)
contents = st.dictionaries(names.map("/".join), st.binary(max_size=20), max_size=5).filter(
    lambda files: not any(f"{name}/" in other for name in files for other in files)
)


@settings(max_examples=40, deadline=None)
@given(signed=contents, found=contents)
def test_folders_pass_for_each_other_only_where_they_hold_the_same(signed, found):
    with tempfile.TemporaryDirectory() as scratch:
        held = make_key(Path(scratch), "training")
        one, two = Path(scratch) / "one", Path(scratch) / "two"
        for folder, files in ((one, signed), (two, found)):
            folder.mkdir()
            write(folder, files)
        signature = bundle.sign(one, NAME, held.key)
        assert bundle.check(one, NAME, signature, [held.listed]) == held.listed
        if signed == found:
            assert bundle.check(two, NAME, signature, [held.listed]) == held.listed
        else:
            with pytest.raises(SignatureError):
                bundle.check(two, NAME, signature, [held.listed])


@pytest.fixture(scope="module")
def sound(held, tmp_path_factory):
    """A folder and its signature, made once: each signature is another one, and may have another length."""
    folder = write(tmp_path_factory.mktemp("sound"), FILES)
    return folder, bundle.sign(folder, NAME, held.key)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=30), put=st.text(max_size=3), place=st.integers(0, 10_000))
def test_text_that_is_no_signature_is_refused_and_never_an_error_of_another_kind(held, sound, text, put, place):
    folder, signature = sound
    with pytest.raises(SignatureError):
        bundle.check(folder, NAME, text, [held.listed])
    at = place % len(signature)
    changed = signature[:at] + put + signature[at + 1 :]
    try:
        assert bundle.check(folder, NAME, changed, [held.listed]) == held.listed
    except SignatureError:
        return
    assert signed_parts(changed) == signed_parts(signature), "what was changed was not signed"


def signed_parts(signature):
    envelope = json.loads(signature)["dsseEnvelope"]
    return [base64.b64decode(part) for part in (envelope["payload"], envelope["signatures"][0]["sig"])]


def test_signature_of_the_official_package_is_taken():
    public = "".join((OFFICIAL / "public.pem").read_text().splitlines()[1:-1])
    official = VerificationKey(signer="model_signing", public=public)
    signature = (OFFICIAL / "signature.json").read_text()
    assert bundle.check(OFFICIAL / "bundle", "bundle", signature, [official]) == official
    hint = json.loads(signature)["verificationMaterial"]["publicKey"]["hint"]
    assert hint == official.id
