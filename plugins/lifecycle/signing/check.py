"""Who has signed a bundle or an image; and the one place that refuses what nobody has.

Everything that builds, deploys or rolls back asks here. Where a registry does not answer, its error goes through, and
the task is tried again.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.hooks import registry
from lifecycle.hooks.registry import Version
from lifecycle.image_reference import ImageReference
from lifecycle.signing import image as image_signature
from lifecycle.signing import places
from training import use_case as definitions
from training.registry import tags
from training.signing import bundle as bundle_signature
from training.signing.keys import SignatureError, Signer, SigningKey, VerificationKey, listed, open_key

log = logging.getLogger(__name__)


class UnsignedError(AirflowFailException, ValueError):
    """Raised for a bundle or an image without a signature that counts; the message says what to do.

    It fails a task for good: no retry signs anything.
    """


def bundle(use_case: str, version: Version, folder: Path) -> Signer | None:
    """Who has signed the bundle of a version, which lies in ``folder``.

    Raises ``UnsignedError`` where nobody has whose signature counts; ``None`` where the settings do without one.
    """
    configured = settings.load().signing
    if not configured.required and not configured.bundle_keys:
        return None
    try:
        return _bundle(version, folder)
    except SignatureError as error:
        train = definitions.load(use_case).train_dag
        _refuse(
            f"the bundle of version {version.version} of {version.name} is not signed: {error}. Train again with "
            f"{train}, or sign it, if you know where it comes from: {_command(use_case, version.version)}"
        )
        return None


def _bundle(version: Version, folder: Path) -> Signer:
    stored = registry.find_text(version.run_id, tags.BUNDLE_SIGNATURE_FILE)
    if stored is None:
        raise SignatureError(f"run {version.run_id} has no artifact {tags.BUNDLE_SIGNATURE_FILE}")
    name = bundle_signature.subject(version.name, version.run_id)
    return bundle_signature.check(folder, name, stored, settings.load().signing.bundle_keys).who


def image(use_case: str, found: ImageReference, version: str) -> Signer | None:
    """Who has signed an image as that of a model version; refuses as ``bundle`` does.

    Where no server answers requests, a model is what is released, and its bundle's signature is what counts.
    """
    if found.kind == "model":
        return stored_bundle(use_case, registry.resolve(use_case, version))
    name, configured = registry.model_name(use_case), settings.load().signing
    if not configured.required and not configured.image_keys:
        return None
    try:
        return _image(name, found, version, configured.image_keys)
    except SignatureError as error:
        release = definitions.load(use_case).release_dag
        _refuse(
            f"the image {found} of version {version} of {name} is not signed: {error}. Release the version again with "
            f"{release}, which builds and signs it, or sign it, if you know where it comes from: "
            f"{_command(use_case, version)}"
        )
        return None


def _image(model: str, found: ImageReference, version: str, keys: Iterable[VerificationKey]) -> Signer:
    return image_signature.check(found, model, version, places.of(found).read(), keys).who


def stored_bundle(use_case: str, version: Version) -> Signer | None:
    """As ``bundle``, of the bundle that the registry holds."""
    with _stored(version) as folder:
        return bundle(use_case, version, folder)


def signer_of_bundle(version: Version) -> Signer | None:
    """As ``signer_of``, of the bundle that the registry holds."""
    with _stored(version) as folder:
        try:
            return _bundle(version, folder)
        except SignatureError as error:
            log.info("version %s: %s", version.version, error)
            return None


@contextlib.contextmanager
def _stored(version: Version) -> Iterator[Path]:
    """A folder with the bundle that the registry holds, for a while."""
    with tempfile.TemporaryDirectory() as scratch:
        yield registry.download_bundle(version.name, version.version, Path(scratch) / "bundle")


def signer_of(use_case: str, found: ImageReference, version: str) -> Signer | None:
    """Who has signed an image, or ``None``: for whoever goes on without a signature by signing."""
    keys = settings.load().signing.image_keys
    if not keys:
        return None
    try:
        return _image(registry.model_name(use_case), found, version, keys)
    except SignatureError as error:
        log.info("%s: %s", found, error)
        return None


def sign_image(use_case: str, found: ImageReference, version: str) -> Signer:
    """Sign an image as that of a model version, beside signatures of it that are there.

    Raises ``UnsignedError`` where no key makes a signature that counts.
    """
    configured = settings.load().signing
    try:
        key, who = _signing_key("image", configured.image_key, configured.image_keys)
        place = places.of(found)
        # A folder of the same name may have had another content, and so its signature.
        earlier = [entry for entry in place.read() if found.digest.encode() in entry.payload]
        place.write([*earlier, image_signature.sign(found, registry.model_name(use_case), version, key)])
    except SignatureError as error:
        raise UnsignedError(f"the image {found} cannot be signed: {error}") from error
    log.info("%s is signed by %s", found, who)
    return who


def sign_bundle(version: Version) -> Signer:
    """Sign the bundle that the registry holds of a version, as the training job does; raises ``UnsignedError``.

    A Key Vault knows whoever runs this by Azure's default credential: the job's is to be had on Databricks alone.
    """
    configured = settings.load().signing
    try:
        key, who = _signing_key("bundle", configured.bundle_key, configured.bundle_keys)
        with _stored(version) as folder:
            signed = bundle_signature.sign(folder, bundle_signature.subject(version.name, version.run_id), key)
    except SignatureError as error:
        raise UnsignedError(f"the bundle of version {version.version} cannot be signed: {error}") from error
    registry.client().log_text(version.run_id, signed, tags.BUNDLE_SIGNATURE_FILE)
    return who


def _signing_key(what: str, place: str, keys: tuple[VerificationKey, ...]) -> tuple[SigningKey, Signer]:
    """The private key of the settings, and who that is; raises ``SignatureError`` where nobody could check it."""
    if not place:
        raise SignatureError(
            f"{what}_key of [signing] in the settings names no key: name one, which `make signing-key` makes "
            "(docs/signing.md), or set required to false"
        )
    key = open_key(place)
    return key, listed(key, keys, f"{what}_keys").who


def _refuse(what: str) -> None:
    """Raise, or say it and go on where the settings want no signatures."""
    if settings.load().signing.required:
        raise UnsignedError(what)
    log.warning("%s", what)


def _command(use_case: str, version: str) -> str:
    return f"make sign USE_CASE={use_case} VERSION={version}"
