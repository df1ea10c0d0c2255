"""The plain model: the least that a challenger has to be worth."""

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from serving.scoring.contract import Field


def plain_model(features: tuple[Field, ...]) -> Pipeline:
    """A logistic regression on the encoded matrix, not fitted: categories one-hot, numbers standardised with the
    median for missing ones. Nothing about it is tuned.
    """
    categories = [column for column, field in enumerate(features) if field.kind == "category"]
    numbers = [column for column, field in enumerate(features) if field.kind != "category"]
    columns = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), categories),
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        ]
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


def plain_probabilities(
    features: tuple[Field, ...], x: NDArray[np.float32], y: NDArray[np.int64], holdout: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Probability of the positive outcome for each row of ``holdout``, by the plain model fitted on ``x`` and ``y``."""
    fitted = plain_model(features).fit(x, y)
    probabilities: NDArray[np.float64] = fitted.predict_proba(holdout)[:, 1]
    return probabilities
