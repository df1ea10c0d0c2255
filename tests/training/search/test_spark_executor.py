"""Spark gives the same trials as local processes: ``make test-spark``."""

import numpy as np
import pytest

from tests.support.spark import local_session

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def session():
    yield from local_session()


@pytest.fixture(scope="module")
def data():
    """Encoded rows whose outcome follows from two columns; no pandas here."""
    from training.search.space import space_of
    from training.search.trials import TrialData, split_folds
    from training.use_case import load

    space = space_of(load("attrition"))

    rng = np.random.default_rng(1)
    x = np.column_stack([rng.integers(0, 3, 300) for _ in space.features]).astype(np.float32)
    y = (rng.random(300) < 0.15 + 0.3 * (x[:, 7] == 2) + 0.2 * (x[:, 8] > 0)).astype(np.int64)
    return TrialData(x, y, split_folds(y, np.arange(300), 2, 1), space)


def test_search_on_spark_gives_the_same_trials_and_ensemble_as_local_processes(session, data, monkeypatch):
    from training.search.executor import ENGINE_VARIABLE, LocalEngine, open_engine
    from training.search.study import choose, search

    monkeypatch.setenv(ENGINE_VARIABLE, "spark")
    with open_engine(data, 2) as spark, LocalEngine(data, 2) as local:
        assert spark.name == "spark"
        found, expected = (search(data, engine, trials=5, seed=3) for engine in (spark, local))
        assert [(r.number, r.parameters, r.scores) for r in found] == [
            (r.number, r.parameters, r.scores) for r in expected
        ]
        assert choose(data, spark, found, seed=3) == choose(data, local, expected, seed=3)
