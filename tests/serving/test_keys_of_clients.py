"""API keys: hashes in a file, rotated while the server runs."""

import logging
import os
from pathlib import Path

import pytest

from serving import keys
from serving.keys import ApiKeys
from serving.problems import KeyMissing, KeyRefused
from serving.settings import SettingsError
from tests.support.serving_processes import key_file


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_LOOK_SECONDS", -1.0)


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


def test_rotated_file_is_followed_and_a_broken_one_leaves_the_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = key_file(tmp_path, portal="old")
    known = ApiKeys(path)
    new = key_file(tmp_path, portal="new", second="other")
    os.utime(new, ns=(1, 1))
    assert known.client("new") == "portal"
    with pytest.raises(KeyRefused):
        known.client("old")
    path.write_text('{"portal": "secret in clear"}')
    with caplog.at_level(logging.WARNING):
        assert known.client("other") == "second"
    assert "stay as they were" in caplog.text
    assert "secret in clear" not in caplog.text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": "zz"}', '{"a": "abcd"}', '{"": "' + "a" * 64 + '"}'])
def test_unusable_key_file_at_start_is_refused_without_its_content(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match="must be") as refusal:
        ApiKeys(path)
    assert "abcd" not in str(refusal.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        ApiKeys(tmp_path / "none.json")
