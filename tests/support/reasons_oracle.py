"""Reasons by the package shap, member by member: what ours are compared with.

    .venv-reasons/bin/python -m tests.support.reasons_oracle

writes ``tests/training/export/reasons_of_50_rows.json``, which `make test` compares with where shap is not installed.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from training.data.dataset import Dataset, read_table
from training.export.onnx_graph import round_down
from training.export.reasons import background
from training.search.ensemble import Member, StackedEnsemble
from training.search.models import STARTING_POINTS
from training.search.space import space_of
from training.use_case import UseCase, load

ROWS = 50
SEED = 1
COMMITTED = Path(__file__).resolve().parents[1] / "training" / "export" / "reasons_of_50_rows.json"
_LOGISTIC, _BOOSTING, _FOREST = STARTING_POINTS
MEMBERS = {
    "logistic": Member(_LOGISTIC, 0.8),
    "boosting of depth 1": Member(_BOOSTING, 0.4),
    "boosting of depth 3": Member(_BOOSTING | {"max_depth": 3, "max_iter": 40}, 0.3),
    "forest": Member(_FOREST | {"n_estimators": 15}, 3.0),
}


def stacked(dataset: Dataset, members: list[Member]) -> StackedEnsemble:
    """Members that are fitted on all rows."""
    return StackedEnsemble(space_of(dataset.use_case), members, -0.3, SEED).fit(dataset.x, dataset.y)


def by_field(design: Any, found: NDArray[np.float64], features: int) -> NDArray[np.float64]:
    """Values of the design's columns ``[n, columns]``, summed up by the encoded column behind them."""
    effects = np.zeros((len(found), features))
    columns = design.fields() if design.linear else np.concatenate([design.asked_, design.number_columns_])
    for place, column in enumerate(columns):
        effects[:, column] += found[:, place]
    return effects


def shap_values(
    pipeline: Pipeline, x: NDArray[np.float32], rows: NDArray[np.float32]
) -> tuple[float, NDArray[np.float64]]:
    """Base, and effects ``[n, features]``, of what one member says of ``x``, with ``rows`` as background."""
    import shap

    design, model = pipeline
    columns, behind = design.transform(x), design.transform(rows)
    if isinstance(model, ExtraTreesClassifier):
        for estimator in model.estimators_:  # shap rounds to float32, to the nearest: this asks it the same question
            estimator.tree_.threshold[:] = round_down(estimator.tree_.threshold)
        explainer = shap.TreeExplainer(model, data=behind, feature_perturbation="interventional")
        found, base = explainer.shap_values(columns)[:, :, 1], explainer.expected_value[1]
    elif isinstance(model, HistGradientBoostingClassifier):
        explainer = shap.TreeExplainer(model, data=behind, feature_perturbation="interventional")
        # Its own check compares in float32, by an absolute limit; ours is below.
        found, base = explainer.shap_values(columns, check_additivity=False), explainer.expected_value
    else:  # without max_samples it takes a part of the background
        masker = shap.maskers.Independent(behind, max_samples=len(behind))
        explainer = shap.LinearExplainer(model, masker)
        found, base = explainer.shap_values(columns), explainer.expected_value
    return float(np.asarray(base).reshape(-1)[-1]), by_field(design, np.asarray(found), x.shape[1])


def ensemble_values(ensemble: StackedEnsemble, x: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
    """The same of a whole ensemble: the members' values by their weights."""
    base, effects = ensemble.bias, np.zeros(x.shape)
    rows = background(x, SEED)
    for member, pipeline in zip(ensemble.members, ensemble.pipelines_, strict=True):
        own_base, own = shap_values(pipeline, x, rows)
        base += member.weight * own_base
        effects += member.weight * own
    return base, effects


def table() -> Dataset:
    """The data of the first use case."""
    use_case: UseCase = load("attrition")
    return read_table(use_case, str(use_case.folder / use_case.data))


def some_rows(dataset: Dataset) -> NDArray[np.intp]:
    """The rows whose values are committed."""
    return np.linspace(0, len(dataset.x) - 1, ROWS).astype(int)


def main() -> None:
    """Write the committed file."""
    dataset, lines = table(), []
    for name, member in MEMBERS.items():
        ensemble = stacked(dataset, [member])
        base, effects = ensemble_values(ensemble, dataset.x)
        model = ensemble.pipelines_[0][-1]
        # A solver's last digits differ from machine to machine; the rest of the fits does not.
        fitted = [model.coef_.tolist(), model.intercept_.tolist()] if hasattr(model, "coef_") else None
        rows = effects[some_rows(dataset)].round(9).tolist()
        lines.append(f"{json.dumps(name)}: {json.dumps({'fitted': fitted, 'base': base, 'effects': rows})}")
    COMMITTED.write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
