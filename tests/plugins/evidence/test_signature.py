"""Keys and signatures of approvals: what holds, what does not, and rotation."""

import json
import stat
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import approval_keys, settings
from lifecycle.approval_keys import KeyRing
from lifecycle.evidence.signature import PublicKey, SignatureError, SignedApproval, Statement

RING = KeyRing.new()
NOW = datetime.now(UTC).isoformat()
STATEMENT = Statement(
    model="m", version="3", image="i", evidence="e", approved=True, decided_by="r", user_id="7",
    decided_at=NOW,
)  # fmt: skip
SIGNED = SignedApproval.sign(STATEMENT, RING.private, RING.public)


def test_signature_holds_with_the_public_key_alone():
    SIGNED.check(RING.public)
    assert RING.private not in str(SIGNED) + str(RING.public)


@given(st.sampled_from([name for name in Statement.__struct_fields__ if name != "approved"]), st.text())
def test_changed_statement_has_no_signature(name, text):
    if name == "decided_at":
        text = (datetime.now(UTC) - timedelta(seconds=1 + len(text))).isoformat()
    changed = msgspec.structs.replace(STATEMENT, **{name: text})
    if changed != STATEMENT and changed.decided_at[:10] == NOW[:10]:
        with pytest.raises(SignatureError, match="was not made with key"):
            msgspec.structs.replace(SIGNED, statement=changed).check(RING.public)


@given(st.binary(min_size=64, max_size=64))
def test_other_bytes_are_no_signature(other):
    import base64

    with pytest.raises(SignatureError):
        msgspec.structs.replace(SIGNED, signature=base64.b64encode(other).decode()).check(RING.public)


@pytest.mark.parametrize("text", ["", "not base64!", "YQ==", "\x80"], ids=["empty", "no base64", "short", "no ASCII"])
def test_broken_signature_is_refused(text):
    with pytest.raises(SignatureError):
        msgspec.structs.replace(SIGNED, signature=text).check(RING.public)


def key(since, until=None):
    day = datetime.now(UTC).date()
    only = RING.public[0]
    return PublicKey(
        only.id, only.public, day + timedelta(days=since), None if until is None else day + timedelta(until)
    )


@pytest.mark.parametrize("listed", [key(0), key(0, 0), key(-9, 3)], ids=["from today", "today alone", "around today"])
def test_key_signs_the_decisions_of_its_days(listed):
    SignedApproval.sign(STATEMENT, RING.private, [listed]).check([listed])


@pytest.mark.parametrize("listed", [key(1), key(-9, -1)], ids=["not yet", "no longer"])
def test_key_signs_and_checks_no_decision_of_another_day(listed):
    with pytest.raises(SignatureError, match="correct the dates in approval_keys"):
        SignedApproval.sign(STATEMENT, RING.private, [listed])
    with pytest.raises(SignatureError, match="the decision is dated"):
        SIGNED.check([listed])


@pytest.mark.parametrize("private", ["", "YQ==", "no key at all"], ids=["missing", "short", "no base64"])
def test_private_key_that_is_none_is_refused_without_showing_it(private):
    with pytest.raises(SignatureError, match="make approval-key") as told:
        SignedApproval.sign(STATEMENT, private, RING.public)
    assert not private or private not in str(told.value)


def test_rotated_ring_signs_with_a_new_key_and_checks_what_the_old_one_signed():
    rotated = RING.rotated()
    SIGNED.check(rotated.public)
    signed = SignedApproval.sign(STATEMENT, rotated.private, rotated.public)
    signed.check(rotated.public)
    assert signed.key != SIGNED.key
    assert RING.private not in msgspec.json.encode(rotated).decode(), "the earlier private key is gone"


def test_ring_is_made_once_in_a_file_of_its_owner(tmp_path):
    path = tmp_path / "secrets" / "ring.json"
    made = KeyRing.load(path)
    assert KeyRing.load(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    approval_keys.main(["--rotate", str(path)])
    assert [one.id for one in KeyRing.load(path).public[:-1]] == [made.public[0].id]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_ring_that_is_not_there_is_not_rotated(tmp_path):
    with pytest.raises(SystemExit, match="is not there"):
        approval_keys.main(["--rotate", str(tmp_path / "none.json")])


def test_key_pair_for_a_cloud_is_a_connection_in_a_private_file_and_a_line_for_the_settings(tmp_path, capsys):
    path = tmp_path / "approval-key.json"
    approval_keys.main([str(path)])
    private = json.loads(path.read_text())["password"]
    shown = capsys.readouterr().out
    assert private not in shown
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    line = next(line for line in shown.splitlines() if line.strip().startswith("{ id"))
    file = tmp_path / "settings.toml"
    file.write_text(f"environment = 'x'\nairflow_url = 'a'\nmlflow_url = 'm'\napproval_keys = [\n{line}\n]\n")
    SignedApproval.sign(STATEMENT, private, settings.read(file).approval_keys).check(settings.read(file).approval_keys)
    with pytest.raises(SystemExit, match="a private key is not overwritten"):
        approval_keys.main([str(path)])


def test_settings_of_a_ring_are_read_as_what_they_were(tmp_path):
    ring = RING.rotated().rotated()
    file = tmp_path / "settings.toml"
    file.write_text(f"environment = 'x'\nairflow_url = 'a'\nmlflow_url = 'm'\napproval_keys = {ring.settings()}\n")
    assert settings.read(file).approval_keys == ring.public


def test_public_key_of_another_length_is_refused_by_its_id(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text(
        "environment = 'x'\nairflow_url = 'a'\nmlflow_url = 'm'\n"
        "approval_keys = [{ id = 'k1', public = 'YQ==', from = 2026-01-01 }]\n"
    )
    with pytest.raises(settings.SettingsError, match="public key 'k1' is not 32 bytes long"):
        settings.read(file)
