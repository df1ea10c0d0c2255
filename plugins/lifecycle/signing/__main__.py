"""Sign by hand, and make keys.

``sign USE_CASE VERSION`` signs the bundle and the image of a version that were made before they were signed, or whose
key is listed no more; ``--only`` one of them, for whoever has one of the keys. Whoever does that vouches for them.
``key FILE`` makes a private key; ``public PLACE`` prints the public half of one, for the settings and for a cluster's
own admission.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.approval_keys import write_private
from training.signing.keys import (
    SigningKey,
    VerificationKey,
    new_private_pem,
    open_key,
    public_pem,
    public_text,
)

if TYPE_CHECKING:
    from lifecycle.hooks.registry import Version


def sign(use_case: str, number: str, only: str = "") -> list[str]:
    """Sign what of a version is not signed; what was done, a line each. ``only``: ``bundle``, ``image`` or both."""
    from lifecycle.hooks import registry

    version = registry.resolve(use_case, number)
    return [
        *(_sign_bundle(version) if only != "image" else ()),
        *(_sign_images(use_case, version) if only != "bundle" else ()),
    ]


def _sign_bundle(version: "Version") -> Iterator[str]:
    from lifecycle.signing import check

    if (held := check.signer_of_bundle(version)) is not None:
        yield f"the bundle of version {version.version} is signed already: {held}"
    else:
        yield f"signed the bundle of version {version.version}: {check.sign_bundle(version)}"


def _sign_images(use_case: str, version: "Version") -> Iterator[str]:
    """What was approved and what was built last; nothing where a model is released without an image."""
    from lifecycle.image_reference import ImageReference
    from lifecycle.signing import check
    from training.registry import tags

    named = dict.fromkeys(filter(None, (version.tags.get(tags.APPROVED_IMAGE), version.tags.get(tags.IMAGE))))
    for image in map(ImageReference.parse, named):
        if image.kind == "model":
            continue
        if (who := check.signer_of(use_case, image, version.version)) is not None:
            yield f"{image} is signed already: {who}"
        else:
            yield f"signed {image}: {check.sign_image(use_case, image, version.version)}"


def make_key(file: Path, signer: str) -> str:
    """Write a new private key; what to do with it."""
    if file.exists():
        raise SystemExit(f"{file} is there already: a private key is not overwritten, name another file")
    write_private(file, new_private_pem())
    return (
        f"The private key is in {file}: put it where bundle_key or image_key of [signing] in the settings says, and "
        f"delete the file.\n{_public(open_key(str(file)), signer)}"
    )


def _public(key: SigningKey, signer: str) -> str:
    from lifecycle.signing.rings import toml

    listed = toml(VerificationKey(signer=signer, public=public_text(key.public)))
    return (
        "The public key goes into bundle_keys or image_keys there, beside those that it replaces:\n\n"
        f"  {listed},\n\n"
        f"and, where the cluster's own admission checks images, there as\n\n{public_pem(key.public)}"
    )


def main(arguments: list[str]) -> None:
    """Run one command; what is wrong ends it with a message."""
    parser = argparse.ArgumentParser(prog="python -m lifecycle.signing", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    signing = commands.add_parser("sign", help="sign the bundle and the image of a version")
    signing.add_argument("use_case")
    signing.add_argument("version")
    signing.add_argument("--only", choices=("bundle", "image"), default="", help="one of the two (default: both)")
    making = commands.add_parser("key", help="make a private key")
    making.add_argument("file", type=Path, help="where the private key goes")
    showing = commands.add_parser("public", help="print the public half of a key")
    showing.add_argument("place", help="a PEM file, or https://VAULT.vault.azure.net/keys/NAME")
    for command in (making, showing):
        command.add_argument("--signer", required=True, help="who holds the private key, in words that people read")
    given = parser.parse_args(arguments)
    try:
        if given.command == "sign":
            text = "\n".join(sign(given.use_case, given.version, given.only))
        elif given.command == "key":
            text = make_key(given.file, given.signer)
        else:
            text = _public(open_key(given.place), given.signer)
    except (OSError, RuntimeError, ValueError) as error:  # a server that does not answer, an engine, what is refused
        raise SystemExit(str(error)) from None
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
