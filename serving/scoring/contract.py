"""The feature contract: what a model bundle says of its inputs.

Training writes it as ``contract.json`` into the bundle, the scoring package reads it, and the server
derives validation, encoding, OpenAPI and drift from it. Nothing else knows a field by name.
"""

from pathlib import Path
from typing import Literal

import msgspec

from serving.scoring.described import described

CONTRACT_FILE = "contract.json"
CLASSIFIER_FILE = "classifier.onnx"
OUTLIERS_FILE = "outliers.onnx"
DRIFT_FILE = "drift.npz"
REASONS_FILE = "reasons.npz"
"""Not in every bundle: a model without exact reasons has none."""
EXAMPLES_FILE = "examples.json"

RELEASE_CLIENT = "release"
"""The client's name, in the server's file of keys and so in its log, of the key that a release verifies with. What it
asks says nothing about anybody, so drift and labels leave it out: no other client's key may have this name."""


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One field of a request record.

    ``category`` fields hold text and are encoded as their position in ``categories``; ``integer`` and
    ``number`` fields hold JSON numbers within ``minimum`` and ``maximum`` (both inclusive).
    """

    name: str
    kind: Literal["integer", "number", "category"]
    description: str
    example: int | float | str
    unit: str | None = None
    categories: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    required: bool = True
    """The key must be there. A field that is not required may be absent, which means missing."""
    nullable: bool = True
    """``null`` is taken as a missing value and imputed as in training."""
    role: Literal["feature", "carried", "compared"] = "feature"
    """``feature``: the classifier and the outlier model see it. ``carried``: it is in requests and in the log, and no
    model sees it, such as constants and keys. ``compared``: carried, and the fairness report groups by it."""
    drift: bool = True
    """Drift is tested for it."""
    sensitive: bool = False
    """A deployment may drop or hash it in the inference log."""

    @property
    def feature(self) -> bool:
        """Whether the models see it."""
        return self.role == "feature"


class OutlierRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the summed path length of ``outliers.onnx`` becomes a score.

    ``score = 2 ** (-(path_length_sum / trees) / normaliser) + offset``, where ``offset`` is scikit-learn's
    ``IsolationForest.offset_`` (negative); a record is an outlier when its score is above 0. That is
    ``-IsolationForest.decision_function(X)``, so larger means stranger.
    """

    trees: int
    normaliser: float
    offset: float


class Band(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The records with the highest probabilities: an aid to talk about a figure, and not a decision."""

    share: float
    """Of the hold-out's records, as the use case wants it."""
    cut: float
    """The probability above which they lay."""

    @property
    def title(self) -> str:
        return f"top {100 * self.share:g}%"


@described
class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole contract of one model."""

    contract_version: Literal[2]
    name: str
    """Registered model name without catalog and schema."""
    title: str
    """The service's name in its API description and in every log line."""
    description: str
    fields: tuple[Field, ...]
    """Request order. The encoded matrix has one column per field with ``feature`` set, in this order."""
    outliers: OutlierRule
    reference_rows: int
    """Rows of training data behind the drift references."""
    drift_threshold: float = 0.05
    key: str | None = None
    """The field that tells one entity from another; answers name their records by it."""
    band: Band | None = None
    """``None``: answers name no band."""

    @property
    def features(self) -> tuple[Field, ...]:
        """The fields that the models see, in the column order of the encoded matrix."""
        return tuple(field for field in self.fields if field.feature)

    @property
    def drift_fields(self) -> tuple[Field, ...]:
        """The fields that drift is tested for, in request order."""
        return tuple(field for field in self.fields if field.drift)


@described
class Examples(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Golden answers: what the registered model says of a few records (``examples.json``)."""

    records: tuple[dict[str, int | float | str | None], ...]
    classifier__predictions: tuple[float, ...]
    outliers__score: tuple[float, ...]
    outliers__is_outlier: tuple[bool, ...]
    reasons: tuple[dict[str, float], ...] = ()
    """The effects of the fields that are named, by field; none where the model gives no reasons."""


def read_contract(bundle: Path) -> Contract:
    """Read and check ``contract.json`` of a bundle folder; raises ``msgspec.ValidationError`` or ``OSError``."""
    return msgspec.json.decode((bundle / CONTRACT_FILE).read_bytes(), type=Contract)


def write_contract(contract: Contract, bundle: Path) -> None:
    """Write ``contract.json`` into a bundle folder, indented for people."""
    (bundle / CONTRACT_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(contract), indent=2))
