"""The training job's choice of a model, without MLflow: what the benchmarks train."""

import os

from training.data.dataset import Employees
from training.search.ensemble import Blend
from training.search.executor import open_engine
from training.search.study import choose, search
from training.search.trial_result import REPEATS
from training.search.trials import TrialData, split_folds


def train(employees: Employees, *, trials: int, seed: int) -> Blend:
    """Search, choose and fit on these rows alone."""
    data = TrialData(employees.x, employees.y, split_folds(employees.y, employees.groups, REPEATS, seed))
    with open_engine(data, os.cpu_count() or 1) as engine:
        results = search(data, engine, trials=trials, seed=seed)
        members, bias = choose(data, engine, results, seed=seed)
    return Blend(members, bias, seed).fit(employees.x, employees.y)
