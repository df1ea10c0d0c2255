"""What is approved where no server answers requests: a model's bundle together with the code that runs it.

An image would hold both. Here the registry keeps the bundle, the workspace keeps published code under its hash, and
the approval is for the digest of the two.
"""

import hashlib
import tempfile
from pathlib import Path

import msgspec
from msgspec import UnsetType

from lifecycle.evidence import document as evidence
from lifecycle.hooks import registry
from lifecycle.hooks.registry import RegistryError, Version
from lifecycle.image_reference import ImageReference
from lifecycle.signing import check


class Released(msgspec.Struct, frozen=True):
    """An approved version, and what it runs with."""

    version: str
    bundle_digest: str
    code_hash: str


def reference(name: str, bundle_digest: str, code_hash: str) -> ImageReference:
    """One reference for both: registered model, digest of its bundle, hash of the code."""
    digest = hashlib.sha256(f"{bundle_digest}\n{code_hash}\n".encode()).hexdigest()
    return ImageReference(f"models:/{name}", f"sha256:{digest}")


def content(use_case: str, version: Version, code_hash: str) -> evidence.Image:
    """What a release of this version would bring into production; raises ``UnsignedError``."""
    from training.registry.content import content_digest

    with tempfile.TemporaryDirectory() as scratch:
        bundle = registry.download_bundle(version.name, version.version, Path(scratch) / "bundle")
        signed = evidence.Signed(bundle=check.bundle(use_case, version, bundle))
        digest = content_digest(bundle)
    found = reference(version.name, digest, code_hash)
    return evidence.Image(reference=str(found), signed_by=signed, bundle=digest, code=code_hash)


def approved(use_case: str, version: Version) -> Released:
    """Bundle and code of a version's last approval; raises ``RegistryError`` where none counts."""
    document = evidence.read_last_approved(use_case, version)
    bundle, code = document.image.bundle, document.image.code
    if isinstance(bundle, UnsetType) or isinstance(code, UnsetType):
        raise RegistryError(f"version {version.version} was approved as an image: release it again")
    if reference(version.name, bundle, code) != document.image.content:
        raise RegistryError(
            f"the evidence of version {version.version} names bundle {bundle} and code {code}, which are not what was "
            f"approved ({document.image.reference}): release it again"
        )
    return Released(version.version, bundle, code)


def check_approved(use_case: str, version: str, bundle_digest: str, code_hash: str) -> None:
    """Raise ``RegistryError`` unless this bundle and this code of a version were approved together, last or earlier."""
    found = registry.resolve(use_case, version)
    evidence.read_approved(use_case, found, reference(found.name, bundle_digest, code_hash))
