"""Access tokens of Microsoft Entra ID: who calls, and whether they may. Needs the optional requirements ``entra``."""

import logging
import threading
import time

import jwt

from serving.errors import NotReady, RoleMissing, TokenRefused
from serving.settings import Settings

COOLDOWN_SECONDS = 30.0
"""The key server is asked at most once in so long, whatever is sent: a new key is taken that much later."""
_LIFESPAN_SECONDS = 3600.0
_LONGEST_SECONDS = 24 * 3600.0
"""For how long keys are used while the key server does not answer."""
_TIMEOUT = 3.0
_LEEWAY = 60  # seconds between two clocks
_log = logging.getLogger(__name__)


class EntraTokens:
    """Checks tokens with the tenant's published keys, which are fetched when they are needed. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        authority = f"{settings.entra_authority.rstrip('/')}/{settings.entra_tenant}"
        self._settings = settings
        self._issuers = [f"{authority}/v2.0", f"https://sts.windows.net/{settings.entra_tenant}/"]
        self._server = jwt.PyJWKClient(f"{authority}/discovery/v2.0/keys", cache_jwk_set=False, timeout=_TIMEOUT)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._lock = threading.Lock()

    def may_wait(self, authorization: str) -> bool:
        """Whether ``client`` would ask the key server, which takes up to three seconds."""
        try:
            return self._is_due(_key_id(_token(authorization)))
        except TokenRefused:
            return False

    def client(self, authorization: str) -> str:
        """The calling application's id; raises ``TokenRefused``, ``RoleMissing``, or ``NotReady`` without keys.

        The id and not the name: names need not be unique, and an application could be called ``release``.
        """
        token, wanted = _token(authorization), self._settings
        key = self._key(_key_id(token))
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=wanted.entra_audience,
                issuer=self._issuers,
                leeway=_LEEWAY,
                options={"require": ["exp", "iat", "aud", "iss", "tid"], "strict_aud": True},
            )
        except jwt.InvalidTokenError as error:
            raise TokenRefused(f"the access token is not good here ({type(error).__name__})") from None
        caller = claims.get("azp") or claims.get("appid")
        if claims["tid"] != wanted.entra_tenant or not isinstance(caller, str):
            raise TokenRefused("the access token is of another tenant, or names no application")
        if wanted.entra_role not in [*claims.get("roles", []), *str(claims.get("scp", "")).split()]:
            raise RoleMissing(f"the access token lacks the role {wanted.entra_role!r}: an administrator grants it")
        return caller

    def _is_due(self, key_id: str) -> bool:
        now = time.monotonic()
        if now - self._tried < COOLDOWN_SECONDS:
            return False
        return key_id not in self._keys or now - self._fetched > _LIFESPAN_SECONDS

    def _key(self, key_id: str) -> jwt.PyJWK:
        # Whoever has a key goes on with it while somebody else asks for newer ones.
        if self._is_due(key_id) and self._lock.acquire(blocking=key_id not in self._keys):
            try:
                if self._is_due(key_id):
                    self._fetch()
            finally:
                self._lock.release()
        if not self._keys:
            raise NotReady("the keys that access tokens are signed with could not be fetched; try again")
        if key_id not in self._keys:
            raise TokenRefused("the access token is signed with a key that its tenant does not publish")
        return self._keys[key_id]

    def _fetch(self) -> None:
        try:
            # A ``PyJWK`` is used for its own algorithm alone, whatever a token says of itself.
            self._keys = {key.key_id: key for key in self._server.get_signing_keys() if key.key_id}
            self._fetched = time.monotonic()
        except (jwt.PyJWTError, OSError, ValueError) as error:  # no answer, or one that is not a list of keys
            _log.error("the keys of access tokens cannot be fetched: %s", type(error).__name__)
            if time.monotonic() - self._fetched > _LONGEST_SECONDS:
                self._keys = {}
        finally:
            self._tried = time.monotonic()


def _token(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenRefused("send an Entra access token in the header Authorization: Bearer ...")
    return token.strip()


def _key_id(token: str) -> str:
    try:
        key_id = jwt.get_unverified_header(token).get("kid")
    except jwt.InvalidTokenError:
        key_id = None
    if not isinstance(key_id, str):
        raise TokenRefused("what is sent as an access token is not a JSON Web Token with a key id")
    return key_id
