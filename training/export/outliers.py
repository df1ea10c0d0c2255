"""The outlier model: an isolation forest on the encoded matrix, and its rule in the contract."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from serving.scoring.contract import OutlierRule
from training.export.onnx_graph import INPUT, Graph, Tree

SHARE = 0.05
"""Share of the training rows that is called an outlier."""
_TREES = 64
"""Of 256 rows each. scikit-learn's 100 take half as long again, and tell rows with eight of their values made up from
real ones hardly better: area under the curve 0.730 instead of 0.725, with 0.01 between seeds."""


def average_path_length(rows: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """Mean depth of an unsuccessful search in a random tree of ``rows`` rows: what a leaf still hides.

    The same formula as in scikit-learn and in the paper of Liu, Ting and Zhou (2008).
    """
    n = np.asarray(rows, np.float64)
    many = 2 * (np.log(np.maximum(n, 2) - 1) + np.euler_gamma) - 2 * (n - 1) / np.maximum(n, 1)
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, many))


class Outliers:
    """An isolation forest with imputation by median."""

    def __init__(self, seed: int) -> None:
        self.forest = IsolationForest(n_estimators=_TREES, random_state=seed)

    def fit(self, x: NDArray[np.float32]) -> Self:
        self.medians_ = np.nanmedian(x, axis=0).astype(np.float32)
        filled = self._fill(x)
        self.forest.fit(filled)
        self.forest.offset_ = _clear_of_rows(self.forest.score_samples(filled))
        return self

    def scores(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Larger is stranger, above 0 is an outlier: float64 ``[n]``."""
        scores: NDArray[np.float64] = -self.forest.decision_function(self._fill(x))
        return scores

    def rule(self) -> OutlierRule:
        """How the summed path length becomes the same score."""
        return OutlierRule(
            trees=len(self.forest.estimators_),
            normaliser=float(average_path_length(self.forest.max_samples_)),
            offset=float(self.forest.offset_),
        )

    def to_onnx(self) -> bytes:
        """The path-length sum as ONNX."""
        graph = Graph("outliers")
        trees = [
            _path_tree(estimator.tree_, columns)
            for estimator, columns in zip(self.forest.estimators_, self.forest.estimators_features_, strict=True)
        ]
        total = graph.trees(trees, graph.filled(INPUT, [self.medians_]))
        return graph.finish(total, "path_length_sum", len(self.medians_))

    def _fill(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(np.isnan(x), self.medians_, x)


def _clear_of_rows(scores: NDArray[np.float64]) -> float:
    """A threshold below which ``SHARE`` of the scores lie, half way between two of them.

    So rounding cannot turn a training row's flag round.
    """
    ordered = np.unique(scores)
    position = max(1, round(SHARE * len(ordered)))
    return float((ordered[position - 1] + ordered[position]) / 2)


def _path_tree(tree: Any, columns: NDArray[np.int64]) -> Tree:
    left, right = tree.children_left, tree.children_right
    depth = np.zeros(len(left))
    for node in range(len(left)):  # parents come before their children
        if left[node] >= 0:
            depth[[left[node], right[node]]] = depth[node] + 1
    leaf = left < 0
    return Tree(
        feature=np.where(leaf, -1, columns[np.where(leaf, 0, tree.feature)]),
        threshold=tree.threshold,
        left=left,
        right=right,
        value=depth + average_path_length(tree.n_node_samples),
    )
