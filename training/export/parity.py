"""The guard of the export: the bundle must say what scikit-learn says, otherwise the run fails."""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.bundle import Bundle
from serving.scoring.contract import Field
from training.export.classifier import comes_apart
from training.export.outliers import Outliers
from training.search.ensemble import StackedEnsemble

TOLERANCE = 1e-5
GENERATED_ROWS = 10_000
_AT_THRESHOLD = 1e-6
"""Outlier scores this close to 0 may fall on either side."""


class ParityError(ValueError):
    """Raised when the exported bundle and scikit-learn disagree."""


class Parity(msgspec.Struct, frozen=True):
    """Largest differences between bundle and scikit-learn."""

    rows: int
    probability: float
    outlier_score: float
    outlier_flags: int
    """Rows whose outlier flag differs."""


def check_parity(
    folder: Path, ensemble: StackedEnsemble, outliers: Outliers, x: NDArray[np.float32], seed: int
) -> Parity:
    """Compare on all rows ``x`` and on ``GENERATED_ROWS`` generated ones; raises ``ParityError``."""
    rows = np.vstack([x, generate_rows(ensemble.space.features, x, GENERATED_ROWS, seed)])
    bundle = Bundle.load(folder)
    probability = np.abs(bundle.probabilities(rows) - ensemble.predict_proba(rows)[:, 1])
    expected = outliers.scores(rows)
    found = bundle.outlier_scores(rows)
    clear = np.abs(expected) > _AT_THRESHOLD
    parity = Parity(
        rows=len(rows),
        probability=float(probability.max()),
        outlier_score=float(np.abs(found - expected).max()),
        outlier_flags=int(((found > 0) != (expected > 0))[clear].sum()),
    )
    # Written so that a NaN is a failure too.
    if not (parity.probability <= TOLERANCE and parity.outlier_score <= TOLERANCE) or parity.outlier_flags:
        raise ParityError(
            f"the exported bundle disagrees with scikit-learn on {parity.rows} rows: probabilities by up to "
            f"{parity.probability:.2g}, outlier scores by {parity.outlier_score:.2g} (allowed {TOLERANCE:g}), "
            f"{parity.outlier_flags} outlier flags. Nothing is registered: look at {_route(ensemble)}, "
            "and at the versions of scikit-learn, onnx and onnxruntime"
        )
    return parity


def _route(ensemble: StackedEnsemble) -> str:
    if comes_apart(ensemble):
        return "training/export/classifier.py"
    return "the steps of features.py and search.py (take one out, and train again)"


def generate_rows(features: tuple[Field, ...], x: NDArray[np.float32], rows: int, seed: int) -> NDArray[np.float32]:
    """Rows that no file holds: known values shuffled, values anywhere in range, missing and unknown ones."""
    rng = np.random.default_rng(seed)
    made = np.column_stack([rng.choice(column, rows) for column in x.T])
    for position, field in enumerate(features):
        somewhere = rng.random(rows) < 0.2
        if field.kind == "category":
            values = rng.integers(-1, len(field.categories), rows).astype(np.float32)
        else:
            low, high = field.minimum or 0.0, field.maximum or 0.0
            anywhere = (
                rng.integers(int(low), int(high) + 1, rows) if field.kind == "integer" else rng.uniform(low, high, rows)
            )
            values = anywhere.astype(np.float32)
        made[somewhere, position] = values[somewhere]
        made[rng.random(rows) < 0.05, position] = np.nan
    return made.astype(np.float32)
