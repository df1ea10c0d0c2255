"""Models that a use case brings in its ``search.py`` are exported exactly, or refused."""

import msgspec
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler

from serving.scoring.bundle import Bundle
from tests.support.bundles import make_dataset
from training.export.bundle import write_bundle
from training.export.outliers import Outliers
from training.export.own_steps import classifier_in_steps
from training.export.parity import TOLERANCE, check_parity
from training.search.design import DesignMatrix
from training.search.ensemble import Member, StackedEnsemble
from training.search.features import FeaturesError
from training.search.models import STARTING_POINTS
from training.search.space import space_of
from training.use_case import load

SEED = 5
STEPS = {
    "network": (lambda: [MLPClassifier((6,), early_stopping=True, max_iter=500, random_state=SEED)], True),
    "naive": (lambda: [GaussianNB()], True),
    "components": (lambda: [StandardScaler(), PCA(4, random_state=SEED), LogisticRegression()], True),
    "components of numbers": (lambda: [StandardScaler(), PCA(4, random_state=SEED), LogisticRegression()], False),
    "random forest": (lambda: [RandomForestClassifier(20, max_depth=6, random_state=SEED)], False),
    "random forest on hinges": (lambda: [RandomForestClassifier(20, max_depth=6, random_state=SEED)], True),
}
"""What docs/your-model.md names, and whether the design matrix before it is that of a linear model."""


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(load("attrition"), 400, 4)


def made(dataset, steps, linear, *more, make_features=None):
    """An ensemble of one model with these steps behind the design matrix, and of ``more`` of the project's own."""
    space = space_of(dataset.use_case)

    def make(parameters, features, seed):
        if parameters["family"] != "own":
            return space.make(parameters, features, seed)
        categories = tuple(column for column, field in enumerate(features) if field.kind == "category")
        design = DesignMatrix(categories, linear=linear)
        return Pipeline([("design", design), *((f"step{number}", step) for number, step in enumerate(steps()))])

    own = msgspec.structs.replace(space, make=make, make_features=make_features)
    members = [Member({"family": "own"}, 1.5), *(Member(point, 0.4) for point in more)]
    return StackedEnsemble(own, members, -0.3, SEED).fit(dataset.x, dataset.y)


@pytest.mark.parametrize("name", STEPS)
def test_model_that_docs_name_is_exported_exactly(name, dataset, tmp_path):
    ensemble = made(dataset, *STEPS[name], STARTING_POINTS[0])
    outliers = Outliers(SEED).fit(dataset.x)
    write_bundle(tmp_path, "own", ensemble, outliers, dataset)
    assert check_parity(tmp_path, ensemble, outliers, dataset.x, 1).probability <= TOLERANCE
    known = name == "random forest"
    assert (Bundle.load(tmp_path).reasons is not None) == known
    assert np.ptp(ensemble.predict_proba(dataset.x)[:, 1]) > 0.1


def intervals():
    return KBinsDiscretizer(4, strategy="uniform")


def test_own_features_and_an_own_model_go_together(dataset, tmp_path):
    ensemble = made(dataset, *STEPS["network"], STARTING_POINTS[1], make_features=intervals)
    outliers = Outliers(SEED).fit(dataset.x)
    write_bundle(tmp_path, "own", ensemble, outliers, dataset)
    assert check_parity(tmp_path, ensemble, outliers, dataset.x, 1).probability <= TOLERANCE


class Rate(ClassifierMixin, BaseEstimator):
    """A classifier that no converter knows."""

    def fit(self, X, y):
        self.classes_, self.n_features_in_, self.rate_ = np.array([0, 1]), X.shape[1], y.mean()
        return self

    def predict_proba(self, X):
        return np.tile([1 - self.rate_, self.rate_], (len(X), 1))


def test_model_that_does_not_convert_is_refused_in_words(dataset):
    ensemble = made(dataset, lambda: [Rate()], False)
    with pytest.raises(FeaturesError, match=r"(?s)pipeline of search.py does not convert.*Rate.*docs/your-model.md"):
        classifier_in_steps(ensemble)
