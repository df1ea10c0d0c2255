"""The fitted models as one scikit-learn estimator, as people log it with ``mlflow.sklearn``."""

from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator

from serving.scoring.contract import Contract
from serving.scoring.encode import encode_columns
from serving.scoring.spelling import column_values
from training.export.outliers import Outliers
from training.search.ensemble import StackedEnsemble


class Scorer(BaseEstimator):  # type: ignore[misc]
    """A data frame of requests in, probability and outlier flag out."""

    def __init__(self, ensemble: StackedEnsemble, outliers: Outliers, contract: Contract) -> None:
        self.ensemble, self.outliers, self.contract = ensemble, outliers, contract

    def predict(self, frame: Any) -> Any:
        """Columns named as the registered model names them."""
        x = encode_columns({name: column_values(frame[name]) for name in frame.columns}, self.contract)
        return pd.DataFrame(
            {
                "classifier__predictions": self.ensemble.predict_proba(x)[:, 1],
                "outliers__is_outlier": self.outliers.scores(x) > 0,
            }
        )
