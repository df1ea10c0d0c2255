"""A model bundle, loaded: encoded records in, probabilities, outliers and drift out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.assistant import Assistant
from serving.scoring.contract import CLASSIFIER_FILE, OUTLIERS_FILE, Contract, read_contract
from serving.scoring.drift import DriftReference, adjust
from serving.scoring.encode import Columns, as_columns, encode_fields, feature_matrix, feature_positions
from serving.scoring.runtime import Model

_WORTH_ASSISTANCE = 64
"""Records; with fewer, another thread costs more than it does."""
_WORTH_SHARING = 256
"""Records from which on the outlier scores take longer than all the rest, so that a part of them is left for later."""
_SHARE = 0.8
"""Of the outlier scores, for the assistant."""


class BundleError(ValueError):
    """Raised when a folder is not a usable model bundle; the message says what is wrong with which file."""


class Result(msgspec.Struct, frozen=True):
    """What the models say of one request. The keys are those of the service's answer."""

    classifier__predictions: list[float]
    """Probability of the positive outcome, one a record."""
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


class Bundle:
    """The models of one bundle folder. Scoring is thread-safe."""

    def __init__(self, contract: Contract, classifier: Path, outliers: Path, drift: DriftReference) -> None:
        self.contract = contract
        self.drift = drift
        self._classifier = Model(classifier, len(contract.features))
        self._outliers = Model(outliers, len(contract.features))
        self._features = feature_positions(contract)
        self._assistant: Assistant[NDArray[np.float32], NDArray[np.float64]] | None = None

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Load a bundle folder; raises ``BundleError``."""
        folder = Path(folder)
        try:
            contract = read_contract(folder)
            drift = DriftReference.load(folder, contract)
            return cls(contract, folder / CLASSIFIER_FILE, folder / OUTLIERS_FILE, drift)
        except (OSError, ValueError, KeyError) as error:
            raise BundleError(f"the model bundle {folder} cannot be loaded: {error}") from error

    def start_assistant(self) -> None:
        """Let a second thread of this process take a part of large requests. Call it after forking, if at all."""
        self._assistant = Assistant(self.outlier_scores)

    def score(self, records: Sequence[Mapping[str, Any]], *, adjusted: bool = False) -> Result:
        """Score records, which are not checked against the contract; see ``score_columns``."""
        return self.score_columns(as_columns(records, self.contract), adjusted=adjusted)

    def score_columns(self, columns: Columns, *, adjusted: bool = False) -> Result:
        """Score a table (dict of columns); ``adjusted`` judges drift by the adjusted p-values."""
        return self.score_fields(encode_fields(columns, self.contract), adjusted=adjusted)

    def score_fields(self, fields: NDArray[np.float64], *, adjusted: bool = False) -> Result:
        """Score encoded fields, float64 ``[n, fields]`` as ``encode_fields`` makes them."""
        return self.begin(fields, adjusted=adjusted)()

    def begin(self, fields: NDArray[np.float64], *, adjusted: bool = False) -> Callable[[], Result]:
        """Score encoded fields; returns what waits for the assistant, so that its client can do other work before."""
        x = feature_matrix(fields, self._features)
        assistant = self._assistant if len(x) >= _WORTH_ASSISTANCE else None
        finish_scores = assistant.begin(_pieces(x)) if assistant else None
        # The classifier first: while it runs, the interpreter is free for the other thread to begin.
        probabilities = self.probabilities(x)
        drift = self._drift(fields, adjusted)

        def finish() -> Result:
            scores = np.concatenate(finish_scores()) if finish_scores else self.outlier_scores(x)
            return Result(
                classifier__predictions=probabilities.tolist(),
                **drift,
                outliers__is_outlier=(scores > 0).tolist(),
                outliers__score=scores.tolist(),
            )

        return finish

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


def _pieces(x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The pieces of a matrix for two threads: few, as the assistant waits for the interpreter after each."""
    cut = int(len(x) * _SHARE)
    return [x[:cut], x[cut:]] if len(x) >= _WORTH_SHARING else [x]
