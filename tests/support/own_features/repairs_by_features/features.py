"""Bins of what has many values, products of all columns, and the columns as they are."""

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import KBinsDiscretizer, PolynomialFeatures


def make_features() -> FeatureUnion:
    bins = KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf")
    return FeatureUnion(
        [
            ("bins", ColumnTransformer([("bins", bins, _many_values)])),
            ("products", PolynomialFeatures(2, interaction_only=True, include_bias=False)),
        ]
    )


def _many_values(X: NDArray[np.float64]) -> list[int]:
    """Columns whose quartiles differ: how many columns a design has depends on rows and family."""
    return [
        column
        for column in range(X.shape[1])
        if len(np.unique(np.quantile(X[:, column], (0, 0.25, 0.5, 0.75, 1)))) == 5
    ]
