"""The training job's choice of a model, without MLflow: what the benchmarks train."""

import os

from training.data.dataset import Dataset
from training.search.ensemble import StackedEnsemble
from training.search.executor import open_engine
from training.search.space import space_of
from training.search.study import choose, search
from training.search.trial_result import REPEATS
from training.search.trials import TrialData, split_folds


def train(dataset: Dataset, *, trials: int, seed: int) -> StackedEnsemble:
    """Search, choose and fit on these rows alone."""
    space = space_of(dataset.use_case)
    data = TrialData(dataset.x, dataset.y, split_folds(dataset.y, dataset.groups, REPEATS, seed), space)
    with open_engine(data, os.cpu_count() or 1) as engine:
        results = search(data, engine, trials=trials, seed=seed)
        members, bias = choose(data, engine, results, seed=seed)
    return StackedEnsemble(space, members, bias, seed).fit(dataset.x, dataset.y)
