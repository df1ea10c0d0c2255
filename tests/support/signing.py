"""Keys that sign in tests, and settings that want signatures."""

from pathlib import Path
from typing import NamedTuple

from lifecycle.settings import Signing
from training.signing.keys import SigningKey, VerificationKey, new_private_pem, open_key, public_text


class Held(NamedTuple):
    """A private key in a file, and its public half as settings list it."""

    place: str
    listed: VerificationKey

    @property
    def key(self) -> SigningKey:
        return open_key(self.place)


def make_key(folder: Path, signer: str) -> Held:
    """A new key in a file of ``folder``."""
    file = folder / f"{signer.replace(' ', '-')}.pem"
    file.write_text(new_private_pem())
    return Held(str(file), VerificationKey(signer=signer, public=public_text(open_key(str(file)).public)))


def required(bundle: Held, image: Held) -> Signing:
    """Settings that want both signed, each with a key of its own."""
    return Signing(
        bundle_key=bundle.place, image_key=image.place, bundle_keys=(bundle.listed,), image_keys=(image.listed,)
    )
