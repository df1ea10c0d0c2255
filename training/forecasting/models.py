"""Gradient boosting on logarithms, from the fit to an ONNX graph.

scikit-learn and not LightGBM: LightGBM's wheel for macOS wants a libomp that somebody has installed, scikit-learn
brings its own. And the way from its trees to ONNX is there already.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from serving.scoring.runtime import open_session
from training.export.onnx_graph import INPUT, Graph, Tree, boosted_tree
from training.forecasting.recipe import Boosting

Goal = Literal["q10", "q50", "q90", "percent"]
"""What a model estimates of a logarithm: a quantile, or the value with about the least absolute error as a share."""
_QUANTILES = {"q10": 0.1, "q50": 0.5, "q90": 0.9}


class Trees:
    """A fitted model. ``content`` is its ONNX file, the same bytes for the same fit."""

    def __init__(self, content: bytes) -> None:
        """Open a model; raises ``serving.scoring.runtime.ModelError``."""
        self.content = content
        self._session = open_session(content)

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logarithms for ``[rows, features]``."""
        (found,) = self._session.run(None, {INPUT: x})
        result: NDArray[np.float64] = found.reshape(-1).astype(np.float64)
        return result


def fit_trees(x: NDArray[np.float32], y: NDArray[np.float64], goal: Goal, boosting: Boosting, seed: int) -> Trees:
    """Fit ``LN(1 + y)``; ``x`` without NaN, ``[rows, features]``, ``y`` the quantity, ``[rows]``."""
    trees: list[Tree] = []
    base = 0.0
    for bag in range(boosting.bags):
        drawn = _drawn(y, seed + bag) if goal == "percent" else slice(None)
        model = HistGradientBoostingRegressor(
            loss="squared_error" if goal == "percent" else "quantile",
            quantile=None if goal == "percent" else _QUANTILES[goal],
            max_iter=boosting.iterations,
            learning_rate=boosting.learning_rate,
            max_leaf_nodes=boosting.leaves,
            min_samples_leaf=boosting.rows_in_leaf,
            l2_regularization=boosting.l2,
            max_features=boosting.features,
            early_stopping=False,
            random_state=seed + bag,
        )
        model.fit(x[drawn], np.log1p(y[drawn]))
        base += float(model._baseline_prediction.item()) / boosting.bags
        trees += [boosted_tree(iteration[0], 1 / boosting.bags) for iteration in model._predictors]
    graph = Graph("forecast")
    total = graph.node("Add", graph.trees(trees, INPUT), graph.constant([[base]]))
    return Trees(graph.finish(total, "logarithm", x.shape[1]))


def _drawn(y: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Rows to learn from where errors count as shares: as many as there are, each with a chance that goes by 1 / y.

    The median of what is so drawn is where the mean of |forecast - y| / y is least, and for logarithms that spread
    evenly to both sides the mean is that median: squared errors find it with fewer rows than absolute ones do. Weights
    would say the same, but with them scikit-learn takes minutes to find its bins.
    """
    chances = 1 / np.maximum(y, 1.0)
    drawn = np.random.default_rng(seed).choice(len(y), len(y), p=chances / chances.sum())
    return np.sort(drawn)
