"""The command line that makes keys, and prints what settings and a cluster's own admission need of them."""

import os
import re
import tomllib

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization

from lifecycle.approval_keys import write_private
from lifecycle.signing.__main__ import main
from training.signing.keys import VerificationKey, listed, open_key

SIGNER = 'builds of "HR"'


def told(text):
    """The line for the settings, and the public key as PEM."""
    (line,) = re.findall(r"^  (\{ .* \}),$", text, re.MULTILINE)
    (entry,) = tomllib.loads(f"keys = [{line}]")["keys"]
    pem = re.search(r"-----BEGIN PUBLIC KEY-----.*-----END PUBLIC KEY-----", text, re.DOTALL)[0]
    return msgspec.convert(entry, VerificationKey), serialization.load_pem_public_key(pem.encode())


def test_private_file_is_never_written_into_one_that_is_there(tmp_path, monkeypatch):
    """What a killed process had left, for all to read, was taken for the new file, which had its rights then."""
    file, owners = tmp_path / "folder" / "key.pem", []
    file.parent.mkdir()
    left = file.with_name(f".{file.name}.{os.getpid()}")
    left.write_text("old")
    left.chmod(0o644)
    monkeypatch.setattr(os, "chown", lambda path, *ids: owners.append((path.read_text(), *ids)))
    write_private(file, "secret", 10001)
    assert owners == [("secret", 10001, 10001)], "before it is found under its name"
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("secret", 0o600)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    write_private(file, "newer")
    assert (file.read_text(), len(owners)) == ("newer", 1)


def test_new_key_is_its_owners_alone_and_its_line_is_what_the_settings_take(tmp_path, capsys):
    file = tmp_path / "key.pem"
    main(["key", str(file), "--signer", SIGNER])
    made, pem = told(capsys.readouterr().out)
    assert file.stat().st_mode & 0o777 == 0o600
    assert made.signer == SIGNER
    assert listed(open_key(str(file)), [made], "image_keys") == made
    assert pem == open_key(str(file)).public
    main(["public", str(file), "--signer", SIGNER])
    again = capsys.readouterr().out
    assert told(again)[0] == made
    assert "PRIVATE" not in again


def test_private_key_is_not_overwritten(tmp_path):
    file = tmp_path / "key.pem"
    file.write_text("somebody's")
    with pytest.raises(SystemExit, match=r"key\.pem is there already"):
        main(["key", str(file), "--signer", SIGNER])
    assert file.read_text() == "somebody's"


def test_file_that_is_no_key_ends_it_with_a_message(tmp_path):
    with pytest.raises(SystemExit, match=r"none\.pem cannot be read"):
        main(["public", str(tmp_path / "none.pem"), "--signer", SIGNER])
