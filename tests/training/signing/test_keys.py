"""Private keys in files and in a double of Azure Key Vault, and the public keys that settings list."""

import base64
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from hypothesis import given
from hypothesis import strategies as st

from tests.support.signing import make_key
from training.signing import keys
from training.signing.keys import (
    FileKey,
    SignatureError,
    VaultKey,
    VerificationKey,
    listed,
    maker,
    open_key,
    public_text,
)

TEXT = b"what is signed"


def test_signature_of_a_file_key_is_that_of_its_public_half_alone(tmp_path):
    ours, other = make_key(tmp_path, "training"), make_key(tmp_path, "somebody else")
    signature = ours.key.sign(TEXT)
    assert maker([other.listed, ours.listed], signature, TEXT) == ours.listed
    assert maker([other.listed], signature, TEXT) is None
    assert maker([ours.listed], signature, TEXT + b"!") is None
    assert maker([ours.listed], b"no signature", TEXT) is None


def test_id_is_the_hint_of_the_model_signing_format(tmp_path):
    held = make_key(tmp_path, "training")
    pem = held.key.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert held.listed.id == hashlib.sha256(pem).hexdigest()
    assert str(held.listed.who) == f"training (key {held.listed.id[:12]})"


def pem_of(key, password=None):
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden).decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a private key in PEM"),
        ("a secret that is no key", "is not a private key in PEM"),
        (pem_of(ec.generate_private_key(ec.SECP256R1()), b"password"), "without a password"),
        (pem_of(ec.generate_private_key(ec.SECP384R1())), "of another kind: give an elliptic curve key on P-256"),
        (pem_of(rsa.generate_private_key(65537, 2048)), "of another kind"),
    ],
    ids=["empty", "no key", "password", "P-384", "RSA"],
)
def test_file_that_holds_no_key_for_this_is_refused_and_not_quoted(tmp_path, text, why):
    file = tmp_path / "key.pem"
    file.write_text(text)
    with pytest.raises(SignatureError, match=why) as refused:
        FileKey(file)
    assert not any(line in str(refused.value) for line in text.splitlines() if line)


def test_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SignatureError, match=r"gone\.pem cannot be read: No such file"):
        open_key(str(tmp_path / "gone.pem"))


@pytest.mark.parametrize("public", ["", "no base64!", base64.b64encode(b"no key").decode(), "P-384"])
def test_public_key_that_is_none_is_refused_with_whose_it_is(public):
    if public == "P-384":
        public = public_text(ec.generate_private_key(ec.SECP384R1()).public_key())
    with pytest.raises(ValueError, match=r"the public key of 'training'"):
        VerificationKey(signer="training", public=public)


def test_key_that_nobody_lists_says_which_line_to_add(tmp_path):
    ours, other = make_key(tmp_path, "training"), make_key(tmp_path, "other")
    assert listed(ours.key, [other.listed, ours.listed], "bundle_keys") == ours.listed
    with pytest.raises(SignatureError, match="not listed in bundle_keys") as refused:
        listed(ours.key, [other.listed], "bundle_keys")
    assert ours.listed.public in str(refused.value)


class Vault:
    """One key of a Key Vault: answers as its REST API 7.4 does."""

    def __init__(self):
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.asked, self.refusal, self.curve, self.named = [], None, "P-256", "signing"
        double = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                """Quiet."""

            def do_GET(self):
                numbers = double.private.public_key().public_numbers()
                kid = f"{double.url}/keys/{double.named}/0a1b"
                x, y = (encoded(value.to_bytes(32)) for value in (numbers.x, numbers.y))
                self.answer({"key": {"kid": kid, "kty": "EC", "crv": double.curve, "x": x, "y": y}})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                digest = base64.urlsafe_b64decode(body["value"] + "==")
                made = double.private.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
                raw = b"".join(part.to_bytes(32) for part in utils.decode_dss_signature(made))
                self.answer({"kid": f"{double.url}/keys/signing/0a1b", "value": encoded(raw)}, body)

            def answer(self, said, body=None):
                double.asked.append((self.command, self.path, self.headers["Authorization"], body))
                content = json.dumps({"error": {"code": "Forbidden"}} if double.refusal else said).encode()
                self.send_response(double.refusal or 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def vault():
    double = Vault()
    yield double
    double.close()


def key_of(vault):
    return VaultKey(f"{vault.url}/keys/signing", lambda: "a token")


def test_vault_signs_with_the_version_that_it_names_and_the_signature_is_as_both_formats_want_it(vault):
    key = key_of(vault)
    signature = key.sign(TEXT)
    vault.private.public_key().verify(signature, TEXT, ec.ECDSA(hashes.SHA256()))
    assert VerificationKey(signer="vault", public=public_text(key.public)).made(signature, TEXT)
    body = {"alg": "ES256", "value": encoded(hashlib.sha256(TEXT).digest())}
    assert vault.asked == [
        ("GET", "/keys/signing?api-version=7.4", "Bearer a token", None),
        ("POST", "/keys/signing/0a1b/sign?api-version=7.4", "Bearer a token", body),
    ]


def test_vault_that_refuses_says_which_role_is_missing_and_no_token(vault):
    vault.refusal = 403
    with pytest.raises(
        SignatureError, match=r"refuses GET .*keys/signing with 403: .*Key Vault Crypto User"
    ) as refused:
        key_of(vault).sign(TEXT)
    assert "a token" not in str(refused.value)


@pytest.mark.parametrize("status", [429, 503])
def test_vault_that_is_away_is_no_verdict(vault, status):
    vault.refusal = status
    with pytest.raises(requests.HTTPError):
        key_of(vault).sign(TEXT)


def test_vault_with_another_kind_of_key_or_the_address_of_another_one_is_refused(vault):
    vault.curve = "P-521"
    with pytest.raises(SignatureError, match="not an elliptic curve key on P-256"):
        _ = key_of(vault).public
    vault.named = "other"
    with pytest.raises(SignatureError, match="the address of another key"):
        _ = key_of(vault).public


def test_place_decides_what_holds_the_key_and_who_asks_for_it(vault, monkeypatch):
    asked = []
    monkeypatch.setattr(keys, "_azure_token", lambda url, credential: asked.append((url, credential)) or "token")
    place = f"{vault.url}/keys/signing"
    open_key(place, "lifecycle-signing").sign(TEXT)
    assert set(asked) == {(place, "lifecycle-signing")}
    assert isinstance(open_key("https://lifecycle.vault.azure.net/keys/bundle-signing/0a1b"), VaultKey)


@given(st.sampled_from(["http://", "https://", "ftp://", "HTTP://"]), st.text(max_size=40))
def test_token_goes_to_no_address_but_that_of_a_key(scheme, rest):
    place = scheme + rest
    if keys._VAULT_KEY.fullmatch(place):
        assert place.lower().startswith("https://")
        return
    with pytest.raises(SignatureError, match="not the address of a key"):
        open_key(place)


@pytest.mark.parametrize("credential", ["", "lifecycle-signing"], ids=["default", "of Unity Catalog"])
def test_token_is_for_the_vaults_cloud_and_of_whom_the_settings_name(monkeypatch, credential):
    asked = []

    def provider(name=""):
        return SimpleNamespace(get_token=lambda scope: asked.append((name, scope)) or SimpleNamespace(token="t"))

    # On Databricks the runtime has it; elsewhere importing the SDK's stand-in would look for a workspace.
    utilities = SimpleNamespace(credentials=SimpleNamespace(getServiceCredentialsProvider=provider))
    monkeypatch.setitem(sys.modules, "databricks.sdk.runtime", SimpleNamespace(dbutils=utilities))
    monkeypatch.setattr("azure.identity.DefaultAzureCredential", provider)
    assert keys._azure_token("https://lifecycle.vault.azure.cn/keys/signing", credential) == "t"
    assert asked == [(credential, "https://vault.azure.cn/.default")]
