"""The bill of materials of a serving image: CycloneDX 1.6 JSON, with its packages, its model and the model's data."""

import functools
import re
import uuid
from collections.abc import Iterator
from typing import NamedTuple

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class ModelPart(NamedTuple):
    """The model that the image serves, as a component beside its packages."""

    name: str
    version: str
    """Of the registry."""
    run_id: str
    """The training run."""
    bundle_hash: str
    """SHA-256 over paths and contents of the bundle's files (``training.registry.content``)."""
    data_digest: str
    """Of the table that it was trained on."""

    def components(self) -> tuple[Component, Component]:
        """The model, and the table that it came from."""
        data = Component(
            name=f"{self.name} training data",
            type=ComponentType.DATA,
            bom_ref="training-data",
            properties=[Property(name="lifecycle:data-digest", value=self.data_digest or "unknown")],
        )
        model = Component(
            name=self.name,
            version=self.version,
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref="model",
            properties=[
                Property(name="lifecycle:bundle-digest", value=f"sha256:{self.bundle_hash}"),
                Property(name="lifecycle:training-run", value=self.run_id),
            ],
        )
        return model, data


def pins(requirements: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name, version and SHA-256 hashes of every pin of a compiled requirements file."""
    for entry in requirements.replace("\\\n", " ").splitlines():
        if found := _PIN.match(entry.strip()):
            yield found["name"].lower(), found["version"], tuple(_HASH.findall(entry))


@functools.lru_cache(maxsize=4)  # a build asks for the text, and twice for its digest
def bill_of_materials(name: str, version: str, requirements: str, part: ModelPart) -> str:
    """CycloneDX JSON of an application ``name`` ``version`` with these requirements and this model.

    The same arguments give the same text. A file without a single pin raises ``ValueError``: an image whose
    content is not known must not be released.
    """
    packages = [
        Component(
            name=package,
            version=pin,
            type=ComponentType.LIBRARY,
            bom_ref=f"pkg:pypi/{package}@{pin}",
            purl=PackageURL("pypi", name=package, version=pin),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=value) for value in hashes],
        )
        # Two requirements files may name the same package; both follow the same pins.
        for package, pin, hashes in dict.fromkeys(pins(requirements))
    ]
    if not packages:
        raise ValueError("the requirements file holds no pin (name==version): compile it with `make lock`")
    application = Component(name=name, version=version, type=ComponentType.APPLICATION, bom_ref="image")
    metadata = BomMetaData(component=application)
    metadata.timestamp = None  # type: ignore[assignment] # optional in CycloneDX: a date would change the digest
    model, data = part.components()
    bom = Bom(
        components=[*packages, model, data],
        metadata=metadata,
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{name}:{version}"),
    )
    bom.register_dependency(application, [*packages, model])
    bom.register_dependency(model, [data])
    return JsonV1Dot6(bom).output_as_string(indent=2)
