"""What is deployed, as one value that goes from the build to the pod: where an image lies, and what its content is.

Nothing carries a digest beside an image: whoever needs the digest reads it out of the image's name.
"""

import re
from typing import Literal, Self

import msgspec

Kind = Literal["registry", "engine", "folder", "model"]
_PART = "[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = f"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]+)?/)?{_PART}(/{_PART})*"
"""As registries write it. ``k8s/deploy.sh`` has the same pattern, and a test holds the two together."""
_LONGEST_REPOSITORY = 255
_FOLDER = "/[^\x00-\x1f\x7f]*"
_MODELS = "models:/"
_MODEL = f"{_MODELS}[^\x00-\x20\x7f/@]+"
_DIGEST = "sha256:[0-9a-f]{64}"
_OWN_ID = 12
"""Digits of the image id that the engine builder of 0.1.0 put at the end of a tag."""


class ImageReferenceError(ValueError):
    """Raised for a text that does not say which content an image has."""


class ImageReference(msgspec.Struct, frozen=True):
    """An image by its content. There are four kinds, and ``str`` and ``parse`` turn each into a text and back.

    - ``registry``: ``repository@sha256:...``, which a registry keeps;
    - ``engine``: ``sha256:...``, an image id of an engine that no registry stands behind;
    - ``folder``: ``/folder@sha256:...``, the content of a folder of this machine;
    - ``model``: ``models:/name@sha256:...``, a bundle of a registered model together with the code that runs it: where
      no server answers requests, nothing is built from the two.
    """

    place: str
    """Repository, absolute folder or ``models:/name``; empty for an engine's image."""
    digest: str
    """``sha256:`` and 64 hexadecimal digits over the content."""

    def __post_init__(self) -> None:
        if not re.fullmatch(_DIGEST, self.digest) or not self._place_is_one():
            raise ImageReferenceError(
                f"{str(self)!r} does not say which content an image has: give repository@sha256:..., an engine's "
                "image id (sha256:...), /folder@sha256:... or models:/name@sha256:..., each with 64 hexadecimal digits"
            )

    def _place_is_one(self) -> bool:
        if self.kind == "registry":
            return len(self.place) <= _LONGEST_REPOSITORY and bool(re.fullmatch(_REPOSITORY, self.place))
        return not self.place or bool(re.fullmatch(_MODEL if self.kind == "model" else _FOLDER, self.place))

    def __str__(self) -> str:
        return f"{self.place}@{self.digest}" if self.place else self.digest

    @property
    def kind(self) -> Kind:
        if not self.place:
            return "engine"
        if self.place.startswith(_MODELS):
            return "model"
        return "folder" if self.place.startswith("/") else "registry"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one of the four texts; raises ``ImageReferenceError`` for any other."""
        place, at, digest = text.rpartition("@")
        if at and not place:
            raise ImageReferenceError(f"{text!r} names no repository before its @: give repository@sha256:...")
        return cls(place, digest)

    @classmethod
    def parse_pair(cls, reference: str, digest: str) -> Self:
        """Read what 0.1.0 kept as two texts. Raises ``ImageReferenceError`` where they do not say the same.

        A folder then had no digest in its name, and an engine's image was a tag that ends in the front of its id.
        """
        if reference.startswith("/") and "@" not in reference:
            return cls(reference, digest)
        repository, _, tag = reference.rpartition(":")
        if repository and "@" not in reference and tag.endswith(f"-{digest.removeprefix('sha256:')[:_OWN_ID]}"):
            return cls("", digest)
        found = cls.parse(reference)
        if found.digest != digest:
            raise ImageReferenceError(
                f"image {reference!r} and digest {digest!r} are not the same image: release the version again"
            )
        return found
