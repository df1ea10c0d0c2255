"""``make pin-images``: ask registries for the digests of the images in ``images.lock``, and write them down.

A digest is written only when its registry has just answered it: the lock file first, then behind the tag in each
file that names the image. What could not be looked up stays as it was, and the command ends with code 1.
"""

import re
import sys
from pathlib import Path

import requests

from lifecycle.builders.acr_registry import MANIFESTS
from lifecycle.images import LOCK, NOT_LOOKED_UP, ROOT, Image, read

NAMED_IN = (
    "docker-compose.yaml",
    "compose/Dockerfile",
    "delivery/Dockerfile",
    "monitoring/collector/collector.yaml",
    "serving/Dockerfile",
    "tests/compose/stand-ins/Dockerfile",
)
"""Files that other programs read, so the references stand in them; everything else asks ``lifecycle.images``."""
_DOCKER_HUB = "registry-1.docker.io"
_LOOPBACK = ("localhost", "127.0.0.1")
_TIMEOUT = 30
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class LookupFailed(RuntimeError):
    """Raised when a registry does not tell a digest; the message says why."""


def place(name: str) -> tuple[str, str]:
    """The registry's address and the repository of an image's name, by Docker's rules."""
    first, _, rest = name.partition("/")
    if not rest or not ("." in first or ":" in first or first == "localhost"):
        return f"https://{_DOCKER_HUB}", name if rest else f"library/{name}"
    scheme = "http" if first.partition(":")[0] in _LOOPBACK else "https"
    return f"{scheme}://{first}", rest


def digest_of(image: Image) -> str:
    """What the registry has under the tag: the index for all systems where there is one; raises ``LookupFailed``."""
    address, repository = place(image.name)
    url = f"{address}/v2/{repository}/manifests/{image.tag}"
    headers = {"Accept": MANIFESTS}
    try:
        with requests.Session() as session:
            answer = session.head(url, headers=headers, timeout=_TIMEOUT)
            if answer.status_code == requests.codes.unauthorized:
                headers["Authorization"] = f"Bearer {_anonymous(session, answer.headers.get('WWW-Authenticate', ''))}"
                answer = session.head(url, headers=headers, timeout=_TIMEOUT)
            answer.raise_for_status()
    except (requests.RequestException, ValueError, KeyError) as error:
        raise LookupFailed(f"{url}: {error}") from error
    found = answer.headers.get("Docker-Content-Digest", "")
    if not _DIGEST.fullmatch(found):
        raise LookupFailed(f"{url}: the answer names no SHA-256 digest (Docker-Content-Digest: {found!r})")
    return found


def _anonymous(session: requests.Session, challenge: str) -> str:
    """A token for reading that the registry gives to everybody."""
    asked = dict(_CHALLENGE.findall(challenge))
    scope = {name: asked[name] for name in ("service", "scope") if name in asked}
    answer = session.get(asked["realm"], params=scope, timeout=_TIMEOUT)
    answer.raise_for_status()
    content = answer.json()
    return str(content.get("token") or content["access_token"])


def written(text: str, images: list[Image]) -> str:
    """A lock file's text with the digests of ``images``; comments and order stay."""
    digests = {(image.name, image.tag): image.digest or NOT_LOOKED_UP for image in images}
    lines = []
    for line in text.splitlines():
        name, tag = (*line.split()[:2], "", "")[:2]
        digest = digests.get((name, tag))
        lines.append(f"{name:<42} {tag:<17} {digest}" if digest else line)
    return "\n".join(lines) + "\n"


def referring(text: str, images: list[Image]) -> str:
    """A file's text that names each image by its digest too, where there is one."""
    for image in images:
        known = rf"(?<![\w./-]){re.escape(image.tagged)}(@sha256:[0-9a-f]{{64}})?(?![\w.@-])"
        text = re.sub(known, image.reference, text)
    return text


def pin(root: Path = ROOT) -> bool:
    """Look all up and write what was found; returns whether every digest was."""
    lock, complete, images = root / LOCK.name, True, []
    for image in read(lock):
        try:
            found = Image(image.name, image.tag, digest_of(image))
        except LookupFailed as error:
            complete, found = False, image
            sys.stdout.write(f"{image.tagged} stays {image.digest or NOT_LOOKED_UP}: {error}\n")
        else:
            sys.stdout.write(f"{image.tagged} is {found.digest}\n")
        images.append(found)
    lock.write_text(written(lock.read_text(), images))
    for name in NAMED_IN:
        path = root / name
        path.write_text(referring(path.read_text(), images))
    return complete


if __name__ == "__main__":
    sys.exit(0 if pin() else 1)
