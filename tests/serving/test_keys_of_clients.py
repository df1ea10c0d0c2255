"""API keys: hashes in a file, rotated while the server runs."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import keys, mounted_file
from serving.errors import KeyMissing, KeyRefused, NotReady
from serving.keys import ApiKeys
from serving.settings import SettingsError
from tests.support.serving_processes import key_file


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounted_file, "LOOK_SECONDS", 0.0)


def test_each_key_is_its_clients(tmp_path: Path) -> None:
    known = ApiKeys(key_file(tmp_path, portal="one", payroll="two"))
    assert known.client("one") == "portal"
    assert known.client("two") == "payroll"


def test_missing_and_unknown_keys_are_different_refusals_and_do_not_repeat_the_key(tmp_path: Path) -> None:
    known = ApiKeys(key_file(tmp_path, portal="one"))
    with pytest.raises(KeyMissing):
        known.client(None)
    with pytest.raises(KeyRefused) as refusal:
        known.client("guessed-\xff\u20ac")
    assert "guessed" not in str(refusal.value)


def test_rotated_file_is_followed(tmp_path: Path) -> None:
    path = key_file(tmp_path, portal="old")
    known = ApiKeys(path)
    key_file(tmp_path, portal="new", second="other")
    assert known.client("new") == "portal"
    with pytest.raises(KeyRefused):
        known.client("old")


def test_file_of_the_same_size_and_time_is_followed(tmp_path: Path) -> None:
    path = key_file(tmp_path, portal="old")
    known = ApiKeys(path)
    written = path.stat()
    key_file(tmp_path, portal="new")
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert known.client("new") == "portal"


def test_last_client_can_be_revoked_and_a_server_starts_so(tmp_path: Path) -> None:
    path = key_file(tmp_path, portal="old")
    known = ApiKeys(path)
    path.write_text("{}")
    for keys_ in (known, ApiKeys(path)):
        with pytest.raises(KeyRefused):
            keys_.client("old")


def _emptied(path: Path) -> None:
    path.write_text("")


def _broken(path: Path) -> None:
    path.write_text('{"portal": "secret in clear"}')


@pytest.mark.parametrize("spoil", [_emptied, _broken, Path.unlink])
def test_file_that_cannot_be_used_lets_nobody_in_after_a_moment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    path = key_file(tmp_path, portal="old")
    known = ApiKeys(path)
    spoil(path)
    assert known.client("old") == "portal"  # whoever writes the file anew empties it first
    monkeypatch.setattr(keys, "_GRACE_SECONDS", -1.0)
    with pytest.raises(NotReady):
        known.client("old")
    assert "until this is mended" in caplog.text
    assert "secret in clear" not in caplog.text
    key_file(tmp_path, portal="old")
    assert known.client("old") == "portal"


@pytest.mark.parametrize("text", ["", "[]", '{"a": "zz"}', '{"a": "abcd"}', '{"": "' + "a" * 64 + '"}'])
def test_unusable_key_file_at_start_is_refused_without_its_content(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match="must be") as refusal:
        ApiKeys(path)
    assert "abcd" not in str(refusal.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        ApiKeys(tmp_path / "none.json")
