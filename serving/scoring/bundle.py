"""A model bundle, loaded: encoded records in, probabilities, outliers and drift out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.contract import CLASSIFIER_FILE, OUTLIERS_FILE, Contract, read_contract
from serving.scoring.drift import DriftReference, adjust
from serving.scoring.encode import Columns, as_columns, encode_fields, feature_matrix, feature_positions
from serving.scoring.explain import Explanation, Given, UnknownCategory, explain, unknown_categories
from serving.scoring.reasons import Reasons
from serving.scoring.runtime import Model


class BundleError(ValueError):
    """Raised when a folder is not a usable model bundle; the message says what is wrong with which file."""


class NoReasonsError(ValueError):
    """Raised when reasons are asked for and the model has no exact ones."""


class Result(msgspec.Struct, frozen=True):
    """What the models say of one request. The keys are those of the service's answer."""

    classifier__predictions: list[float]
    """Probability of the positive outcome, one for each record."""
    drift__threshold: float
    drift__sample_size: int
    """Records in the request. A field that is missing in some of them is tested on the others."""
    drift__is_drift: dict[str, bool]
    drift__p_value: dict[str, float]
    drift__adjusted_p_value: dict[str, float]
    """Benjamini-Hochberg over the fields."""
    drift__magnitude: dict[str, float]
    """1 - p."""
    outliers__is_outlier: list[bool]
    outliers__score: list[float]
    """Above 0 for an outlier; larger is stranger."""


DRIFT_KEYS = tuple(key for key in Result.__struct_fields__ if key.startswith("drift__"))
"""What a result says of the request as a whole."""


class Bundle:
    """The models of one bundle folder. Scoring is thread-safe."""

    def __init__(
        self,
        contract: Contract,
        classifier: Path,
        outliers: Path,
        drift: DriftReference,
        reasons: Reasons | None,
    ) -> None:
        self.contract = contract
        self.drift = drift
        self.reasons = reasons
        """``None``: this model gives no reasons."""
        self._classifier = Model(classifier, len(contract.features))
        self._outliers = Model(outliers, len(contract.features))
        self._features = feature_positions(contract)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Load a bundle folder; raises ``BundleError``."""
        folder = Path(folder)
        try:
            contract = read_contract(folder)
            drift = DriftReference.load(folder, contract)
            reasons = Reasons.load(folder, len(contract.features))
            return cls(contract, folder / CLASSIFIER_FILE, folder / OUTLIERS_FILE, drift, reasons)
        except (OSError, ValueError, KeyError) as error:
            raise BundleError(f"the model bundle {folder} cannot be loaded: {error}") from error

    def score(self, records: Sequence[Mapping[str, Any]], *, adjusted: bool = False) -> Result:
        """Score records, which are not checked against the contract; see ``score_columns``."""
        return self.score_columns(as_columns(records, self.contract), adjusted=adjusted)

    def score_columns(self, columns: Columns, *, adjusted: bool = False) -> Result:
        """Score a table (dict of columns); ``adjusted`` judges drift by the adjusted p-values."""
        return self.score_fields(encode_fields(columns, self.contract), adjusted=adjusted)

    def score_fields(self, fields: NDArray[np.float64], *, adjusted: bool = False) -> Result:
        """Score encoded fields, float64 ``[n, fields]`` as ``encode_fields`` makes them."""
        x = feature_matrix(fields, self._features)
        scores = self.outlier_scores(x)
        return Result(
            classifier__predictions=self.probabilities(x).tolist(),
            **self._drift(fields, adjusted),
            outliers__is_outlier=(scores > 0).tolist(),
            outliers__score=scores.tolist(),
        )

    def explain(self, fields: NDArray[np.float64], given: Given) -> Iterator[Explanation]:
        """Why each of some encoded records ``[n, fields]`` has its probability; raises ``NoReasonsError``."""
        if self.reasons is None:
            raise NoReasonsError("this model gives no reasons")
        return explain(self.contract, self.reasons, fields.take(self._features, axis=1), given)

    def unknown_categories(self, fields: NDArray[np.float64], given: Given) -> dict[int, list[UnknownCategory]]:
        """The unknown categories of those of some encoded records ``[n, fields]`` that have any."""
        return unknown_categories(self.contract, fields.take(self._features, axis=1), given)

    def probabilities(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of the positive outcome for each row of the encoded matrix ``[n, features]``."""
        return self._classifier.run(x).astype(np.float64)

    def outlier_scores(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """The outlier score of each row of the encoded matrix; above 0 is an outlier."""
        rule = self.contract.outliers
        mean_path = self._outliers.run(x).astype(np.float64) / rule.trees
        scores: NDArray[np.float64] = np.exp2(-mean_path / rule.normaliser) + rule.offset
        return scores

    def _drift(self, fields: NDArray[np.float64], adjusted: bool) -> dict[str, Any]:
        """The drift members of ``Result``."""
        p_values = self.drift.p_values(fields)
        adjusted_p_values = adjust(p_values)
        names = self.drift.names
        threshold = self.contract.drift_threshold
        judged = adjusted_p_values if adjusted else p_values
        return {
            "drift__threshold": threshold,
            "drift__sample_size": len(fields),
            "drift__is_drift": dict(zip(names, (judged < threshold).tolist(), strict=True)),
            "drift__p_value": dict(zip(names, p_values.tolist(), strict=True)),
            "drift__adjusted_p_value": dict(zip(names, adjusted_p_values.tolist(), strict=True)),
            "drift__magnitude": dict(zip(names, (1 - p_values).tolist(), strict=True)),
        }
