"""What goes into a serving image, and the folder that every builder is given.

    serving/      the server, its requirements and its Dockerfile
    bundle/       the model version's bundle
    k8s/          the manifests that deploy this very image, and in `extras` what it was built with
    release.json  where all of it comes from; the server's /version shows it
    sbom.json     CycloneDX, from serving/requirements.txt and those of the extras

The tag follows from all of that but the date, so the same inputs have the same tag.
"""

import hashlib
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from lifecycle.builders.sbom import ModelPart, bill_of_materials
from training.registry.content import NOT_CONTENT, folder_digest
from training.signing.keys import Signer

ROOT = Path(__file__).resolve().parents[3]
CODE_FOLDERS = ("serving", "k8s")
DOCKERFILE = "serving/Dockerfile"
EXTRAS_FILE = "k8s/extras"
"""The extras' names, a line each: the manifests ask for no more than the image can do."""
RELEASE_FILE = "release.json"
SBOM_FILE = "sbom.json"
KEY_LABEL = "lifecycle.inputs"
"""Label of every image that an engine or ACR has built here: the key of its inputs, which the Dockerfile writes."""
_LAYOUT = "model in the bill of materials"
"""Another text makes other images of the same inputs: what is written here beside them has changed."""
_HASH_LENGTH = 12


class Inputs(msgspec.Struct, frozen=True):
    """All that an image follows from."""

    model_name: str
    model_version: str
    run_id: str
    data_digest: str
    revision: str
    """Git revision of the serving code; never part of the tag, for it says nothing about content."""
    code_hash: str
    bundle_hash: str
    repository: str
    base_image: str
    extras: tuple[str, ...] = ()
    """Optional requirements of the image, by the name of their file."""
    signed_by: Signer | None = None
    """Who has signed the bundle; the image's server tells."""

    @property
    def key(self) -> str:
        """Digest of everything that changes the image: what a builder looks its own work up by."""
        parts = (
            self.model_name, self.model_version, self.run_id, self.data_digest,
            self.code_hash, self.bundle_hash, self.base_image, _LAYOUT, *self.extras,
            *([self.signed_by.signer, self.signed_by.key] if self.signed_by else []),
        )  # fmt: skip
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def tag(self) -> str:
        """Model version and a hash of code, bundle and base image, for example ``v3-0123456789ab``."""
        return f"v{self.model_version}-{self.key[:_HASH_LENGTH]}"


def gather(
    *,
    model: Any,
    bundle: Path,
    repository: str,
    base_image: str,
    revision: str,
    data_digest: str,
    extras: Sequence[str] = (),
    signed_by: Signer | None = None,
) -> Inputs:
    """Describe an image of ``model`` (an ``lifecycle.hooks.registry.Version``) with its downloaded ``bundle``."""
    return Inputs(
        model_name=model.name,
        model_version=str(model.version),
        run_id=model.run_id,
        data_digest=data_digest,
        revision=revision,
        code_hash=folder_digest(ROOT, *CODE_FOLDERS)[:16],
        bundle_hash=folder_digest(bundle),
        repository=repository,
        base_image=base_image,
        extras=tuple(sorted(set(extras))),
        signed_by=signed_by,
    )


def release_document(inputs: Inputs) -> dict[str, Any]:
    """What ``release.json`` says, ``created`` being now."""
    return {
        "model_name": inputs.model_name,
        "model_version": inputs.model_version,
        "run_id": inputs.run_id,
        "data_digest": inputs.data_digest,
        "revision": inputs.revision,
        "code_hash": inputs.code_hash,
        "sbom_digest": sbom_digest(inputs),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "extras": inputs.extras,
        "signed_by": inputs.signed_by,
    }


def write_context(inputs: Inputs, bundle: Path, destination: Path) -> None:
    """Lay out the build context in the empty or new folder ``destination``."""
    destination.mkdir(parents=True, exist_ok=True)
    for name in CODE_FOLDERS:
        shutil.copytree(ROOT / name, destination / name, ignore=shutil.ignore_patterns(*NOT_CONTENT))
    (destination / EXTRAS_FILE).write_text("".join(f"{extra}\n" for extra in inputs.extras))
    shutil.copytree(bundle, destination / "bundle")
    release = msgspec.json.format(msgspec.json.encode(release_document(inputs)), indent=2)
    (destination / RELEASE_FILE).write_bytes(release)
    (destination / SBOM_FILE).write_text(sbom(inputs))


def sbom(inputs: Inputs) -> str:
    """The text of ``sbom.json``; the same inputs have the same, so its digest is known without the image."""
    model = ModelPart(inputs.model_name, inputs.model_version, inputs.run_id, inputs.bundle_hash, inputs.data_digest)
    return bill_of_materials(inputs.model_name, inputs.tag, requirements(inputs), model)


def requirements(inputs: Inputs) -> str:
    """What the image installs: the server's requirements and those of the extras, with their hashes."""
    names = ["requirements.txt", *(f"requirements-{extra}.txt" for extra in inputs.extras)]
    return "\n".join((ROOT / "serving" / name).read_text() for name in names)


def sbom_digest(inputs: Inputs) -> str:
    """``sha256:`` and 64 hexadecimal digits over ``sbom.json``."""
    return f"sha256:{hashlib.sha256(sbom(inputs).encode()).hexdigest()}"


def build_arguments(inputs: Inputs, context: Path) -> dict[str, str]:
    """What ``serving/Dockerfile`` asks for: the base image, and what its OCI labels say."""
    release = msgspec.json.decode((context / RELEASE_FILE).read_bytes())
    return {
        "BASE_IMAGE": inputs.base_image,
        "INPUTS": inputs.key,
        "REVISION": inputs.revision,
        "MODEL_NAME": inputs.model_name,
        "MODEL_VERSION": inputs.model_version,
        "CREATED": release["created"],
        "SCORING_EXTRAS": ",".join(inputs.extras),
    }
