"""A use case's own features: a scikit-learn transformer between design matrix and model, inside every fold."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin


class FeaturesError(ValueError):
    """Raised for a ``features.py`` or ``search.py`` that cannot be used; the message says what to do."""


class OwnFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Design matrix ``[n, columns]`` -> what the transformer makes of it, ``[n, features]``, dense.

    Both are rounded to float32, as in the exported graph, so that a transformer that asks whether a value is above a
    cut is asked about the same value there. It computes in float64, and the model gets the type of the design matrix.
    """

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    def fit(self, X: NDArray[np.floating], y: NDArray[np.int64]) -> Self:
        self.transformer.fit(_rounded(X), y)
        return self

    def transform(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        made = self.transformer.transform(_rounded(X))
        dense = made.toarray() if sparse.issparse(made) else np.asarray(made)
        return _rounded(dense).astype(X.dtype)


def _rounded(X: NDArray[np.floating]) -> NDArray[np.float64]:
    return X.astype(np.float32).astype(np.float64)
