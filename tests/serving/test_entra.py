"""Access tokens of Microsoft Entra, with keys of our own and a key server on loopback."""

import base64
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from serving import entra
from serving.entra import EntraTokens
from serving.errors import NotReady, RoleMissing, TokenRefused
from serving.settings import Settings
from tests.support.serving_bundles import Attrition
from tests.support.serving_processes import ROOT, Server, key_file

TENANT = "11111111-2222-3333-4444-555555555555"
API = "api-client-id"
APPLICATION = "99999999-8888-7777-6666-555555555555"


class KeyServer(http.server.ThreadingHTTPServer):
    """Publishes keys as Entra does, and counts how often it is asked."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.others: list[dict[str, Any]] = []
        """Published beside them, as they are."""
        self.asked = 0
        super().__init__(("127.0.0.1", 0), _Published)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, name: str) -> None:
        """Publish one more key."""
        self.keys[name] = rsa.generate_private_key(65537, 2048)

    def token(self, key: str = "one", algorithm: str = "RS256", **claims: Any) -> str:
        """A good token, but for what is said."""
        now = int(time.time())
        good = {"iss": f"{self.address}/{TENANT}/v2.0", "aud": API, "tid": TENANT, "azp": APPLICATION}
        good |= {"roles": ["Score"], "iat": now, "nbf": now, "exp": now + 600}
        body = {name: value for name, value in (good | claims).items() if value is not None}
        return jwt.encode(body, self.keys[key], algorithm=algorithm, headers={"kid": key})


class _Published(http.server.BaseHTTPRequestHandler):
    server: KeyServer

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.server.asked += 1
        found = self.path == f"/{TENANT}/discovery/v2.0/keys"
        public = [
            json.loads(RSAAlgorithm.to_jwk(key.public_key())) | {"kid": name, "use": "sig", "alg": "RS256"}
            for name, key in self.server.keys.items()
        ]
        body = json.dumps({"keys": public + self.server.others}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def published() -> Iterator[KeyServer]:
    with KeyServer() as serving:
        serving.add("one")
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def tokens(published: KeyServer) -> EntraTokens:
    return EntraTokens(
        Settings(auth="entra", entra_tenant=TENANT, entra_audience=API, entra_authority=published.address)
    )


def test_good_token_names_the_application(published: KeyServer) -> None:
    known = tokens(published)
    assert known.client(f"Bearer {published.token()}") == APPLICATION
    first_version = published.token(iss=f"https://sts.windows.net/{TENANT}/", azp=None, appid=APPLICATION)
    assert known.client(f"bearer {first_version}") == APPLICATION
    assert known.client(f"Bearer {published.token(roles=None, scp='Read Score')}") == APPLICATION
    now = int(time.time())  # of a clock that goes half a minute before ours, and of one that goes after
    for skewed in ({"iat": now + 30, "nbf": now + 30}, {"exp": now - 30}):
        assert known.client(f"Bearer {published.token(**skewed)}") == APPLICATION
    with pytest.raises(TokenRefused):
        known.client(f"Bearer {published.token(exp=now - 120)}")
    assert published.asked == 1


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another-api"},
        {"aud": [API, "another-api"]},
        {"iss": "https://sts.windows.net/another/"},
        {"tid": "another"},
        {"exp": 1},
        {"nbf": 32_503_680_000},  # the year 3000
        {"tid": None},
        {"exp": None},
        {"azp": None},
    ],
    ids=str,
)
def test_token_for_somebody_else_or_another_time_is_refused(published: KeyServer, claims: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        tokens(published).client(f"Bearer {published.token(**claims)}")


@pytest.mark.parametrize("roles", [[], ["Other"], None], ids=str)
def test_token_without_the_role_is_forbidden(published: KeyServer, roles: list[str] | None) -> None:
    with pytest.raises(RoleMissing, match="'Score'"):
        tokens(published).client(f"Bearer {published.token(roles=roles)}")


def test_unsigned_forged_and_meaningless_tokens_are_refused(published: KeyServer) -> None:
    known = tokens(published)
    claims = jwt.decode(published.token(), options={"verify_signature": False})
    forged = jwt.encode(claims, rsa.generate_private_key(65537, 2048), algorithm="RS256", headers={"kid": "one"})
    shared = jwt.encode(claims, "a secret that is long enough for HS256", algorithm="HS256", headers={"kid": "one"})
    unsigned = jwt.encode(claims, None, algorithm="none", headers={"kid": "one"})
    nested = f"{base64.urlsafe_b64encode(b'[' * 5000).decode().rstrip('=')}.e30.AA"
    for text in (
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer a.b.c",
        *(f"Bearer {t}" for t in (forged, shared, unsigned, nested)),
    ):
        known.may_wait(text)  # the main thread asks this first: what it raised would end the worker
        with pytest.raises(TokenRefused) as refusal:
            known.client(text)
        assert text[-20:] not in refusal.value.detail or len(text) < 20


@given(
    st.recursive(st.none() | st.text() | st.integers(), lambda one: st.lists(one) | st.dictionaries(st.text(), one))
    | st.fixed_dictionaries({"alg": st.text() | st.integers(), "kid": st.text() | st.none(), "crit": st.text()}),
    st.text(),
)
def test_whatever_is_sent_as_a_token_is_refused_or_waits_for_keys(header: Any, rest: str) -> None:
    known = EntraTokens(Settings(auth="entra", entra_tenant=TENANT, entra_audience=API))
    known._tried = time.monotonic()  # the key server has just been asked, without success
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).decode()
    for text in (f"{head}.e30.AA", f"{head.rstrip('=')}.{rest}.AA", rest, f"{rest}.{head}."):
        assert known.may_wait(f"Bearer {text}") is False
        with pytest.raises((TokenRefused, NotReady)):
            known.client(f"Bearer {text}")


def test_key_of_another_kind_verifies_nothing(published: KeyServer) -> None:
    published.others = [json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()))]
    published.others[0] |= {"kid": "curve", "use": "sig"}
    token = published.token()
    claims = jwt.decode(token, options={"verify_signature": False})
    renamed = jwt.encode(claims, published.keys["one"], algorithm="RS256", headers={"kid": "curve"})
    known = tokens(published)
    with pytest.raises(TokenRefused):
        known.client(f"Bearer {renamed}")
    assert known.client(f"Bearer {token}") == APPLICATION


def test_unknown_keys_do_not_flood_the_key_server_and_a_rotated_one_is_taken_in_time(
    published: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tokens(published)
    assert known.may_wait(f"Bearer {published.token()}")
    assert known.client(f"Bearer {published.token()}") == APPLICATION
    assert not known.may_wait(f"Bearer {published.token()}")
    published.add("two")
    for _ in range(50):
        with pytest.raises(TokenRefused, match="does not publish"):
            known.client(f"Bearer {published.token('two')}")
    assert published.asked == 1
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + entra.COOLDOWN_SECONDS)
    assert known.may_wait(f"Bearer {published.token('two')}")
    assert known.client(f"Bearer {published.token('two')}") == APPLICATION
    assert published.asked == 2


def test_key_server_that_is_away_is_asked_rarely_and_known_keys_go_on(
    published: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tokens(published)
    token = f"Bearer {published.token()}"
    published.keys, kept = {}, published.keys
    for _ in range(5):
        with pytest.raises(NotReady):
            known.client(token)
    assert published.asked == 1
    published.keys = kept
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + entra.COOLDOWN_SECONDS)
    assert known.client(token) == APPLICATION
    published.keys = {}
    monkeypatch.setattr(time, "monotonic", lambda: now + 7200)
    assert known.client(token) == APPLICATION
    assert published.asked == 3
    monkeypatch.setattr(time, "monotonic", lambda: now + 48 * 3600)
    with pytest.raises(NotReady):
        known.client(token)


def test_server_takes_tokens_logs_the_caller_and_one_api_key(
    attrition: Attrition, tmp_path: Path, published: KeyServer
) -> None:
    keys = key_file(tmp_path, release="for-verification", portal="of-another-client")
    told = {"ENTRA_TENANT": TENANT, "ENTRA_AUDIENCE": API, "ENTRA_AUTHORITY": published.address}
    with Server(tmp_path, attrition.folder, AUTH="entra", API_KEYS_FILE=keys, **told) as server:
        body = json.dumps(attrition.records(1)).encode()

        def predict(**headers: str) -> Any:
            named = {"Content-Type": "application/json"} | {key.replace("_", "-"): v for key, v in headers.items()}
            return server.request("POST", "/predict", body, named)

        for _ in range(3):
            assert predict(Authorization=f"Bearer {published.token()}").status == 200
        assert predict(X_API_Key="for-verification").status == 200
        assert predict(X_API_Key="of-another-client").status == 403
        assert predict(Authorization=f"Bearer {published.token(roles=[])}").status == 403
        refused = predict()
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert [line["client"] for line in server.log_lines()] == [APPLICATION] * 6 + ["release"] * 2
        document = server.request("GET", "/openapi.json").json
        assert document["paths"]["/predict"]["post"]["security"] == [{"Entra": []}, {"ApiKey": []}]
    assert published.asked == 1


@pytest.mark.parametrize(
    ("missing", "settings", "said"),
    [
        ("jwt", {"AUTH": "entra", "ENTRA_TENANT": TENANT, "ENTRA_AUDIENCE": API}, "SCORING_AUTH=entra needs"),
        ("opentelemetry", {}, "OTEL_EXPORTER_OTLP_ENDPOINT needs"),
    ],
    ids=["entra", "otlp"],
)
def test_what_the_image_lacks_ends_the_start_with_one_line(
    attrition: Attrition, tmp_path: Path, missing: str, settings: dict[str, str], said: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    environ = {f"SCORING_{name}": value for name, value in settings.items()}
    environ |= {"SCORING_BUNDLE": str(attrition.folder), "SCORING_BIND": "127.0.0.1:0"}
    environ |= {"SCORING_API_KEYS_FILE": str(key_file(tmp_path, release="r")), "PATH": "/usr/bin:/bin"}
    environ |= {"PYTHONPATH": f"{tmp_path}:{ROOT}", "OTEL_EXPORTER_OTLP_ENDPOINT": "" if settings else "http://x"}
    command = [sys.executable, "-m", "gunicorn", "-c", "python:serving.gunicorn_config", "serving.wsgi:app"]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    (line,) = [text for text in ended.stderr.splitlines() if not text.startswith("{")]
    assert line.startswith(f"the scoring server does not start: {said} the optional requirements")
    assert "Traceback" not in ended.stderr
