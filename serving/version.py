"""What ``GET /version`` says of a server."""

import msgspec

from serving.settings import SignedBy
from serving.stop_switch import Stop


class Model(msgspec.Struct, frozen=True):
    """The model that answers."""

    name: str
    version: str


class Version(msgspec.Struct, frozen=True):
    """What runs here, where it comes from, and whether it scores."""

    service: str
    model: Model
    revision: str
    run_id: str
    data_digest: str
    code_hash: str
    sbom_digest: str
    created: str
    extras: tuple[str, ...]
    signed_by: SignedBy | None
    stopped: Stop | None
    reasons: bool
