"""The key pairs of a local stack: made at its first start, kept where only their owner reads them."""

import json
from pathlib import Path
from typing import Self

import msgspec

from lifecycle.approval_keys import write_private
from serving.scoring.described import described
from training.signing.keys import VerificationKey, new_private_pem, private_of_pem, public_text


@described
class SigningRing(msgspec.Struct, frozen=True):
    """The private key in use, as PEM, and the public keys of all that were."""

    private: str
    public: tuple[VerificationKey, ...]
    """The one in use last."""

    @classmethod
    def new(cls, signer: str) -> Self:
        private = new_private_pem()
        return cls(private, (verification_key(private, signer),))

    def rotated(self) -> Self:
        """With a new pair; the earlier private key is gone, and its public half checks what it has signed."""
        private = new_private_pem()
        return type(self)(private, (*self.public, verification_key(private, self.public[-1].signer)))

    def settings(self) -> str:
        """The public keys as a settings file lists them, in one line of TOML."""
        return f"[{', '.join(toml(key) for key in self.public)}]"

    @classmethod
    def load(cls, path: Path, signer: str) -> Self:
        """Read a ring from its file, and make it where there is none. The private key also lies beside it, as PEM."""
        if not path.exists():
            cls.new(signer).save(path)
        ring = msgspec.json.decode(path.read_bytes(), type=cls)
        pem = path.with_suffix(".pem")
        if not pem.exists() or pem.read_text() != ring.private:
            write_private(pem, ring.private)
        return ring

    def save(self, path: Path) -> None:
        """Replace the file in one step by one that only its owner may read."""
        write_private(path, msgspec.json.encode(self).decode())


def verification_key(private: str, signer: str) -> VerificationKey:
    """The public half of a private key, named after who holds it."""
    return VerificationKey(signer=signer, public=public_text(private_of_pem(private).public_key()))


def toml(key: VerificationKey) -> str:
    """A public key as a settings file lists it."""
    members = {"signer": key.signer, "public": key.public}
    # A string of JSON is one of TOML.
    return f"{{ {', '.join(f'{name} = {json.dumps(value)}' for name, value in members.items())} }}"
