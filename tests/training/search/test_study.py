"""The search: the same trials for a seed, wherever it runs and however often it is interrupted."""

import msgspec
import numpy as np
import pytest

import use_cases
from tests.support.inline_engine import InlineEngine
from training.search.ensemble import fit_weights
from training.search.executor import ENGINE_VARIABLE, LocalEngine, open_engine
from training.search.models import FAMILIES
from training.search.space import space_of
from training.search.study import choose, search
from training.search.trial_result import REPEATS
from training.search.trials import FOLDS, TrialData, split_folds
from training.use_case import load

TRIALS = 5


@pytest.fixture(scope="module")
def data(synthetic):
    folds = split_folds(synthetic.y, synthetic.groups, REPEATS, 1)
    return TrialData(synthetic.x, synthetic.y, folds, space_of(synthetic.use_case))


@pytest.fixture(scope="module")
def searched(data):
    """What a search has found, the out-of-fold scores that it kept, and its engine."""
    engine, scored = InlineEngine(data), {}
    return search(data, engine, trials=TRIALS, seed=5, scored=scored), scored, engine


@pytest.fixture(scope="module")
def results(searched):
    return searched[0]


@pytest.fixture(scope="module")
def chosen(data, results):
    """What all folds that the choice wants say, fitted for it."""
    return choose(data, InlineEngine(data), results, seed=5)


def figures(results):
    return [(result.number, result.parameters, result.scores) for result in results]


def test_search_with_the_same_seed_gives_the_same_trials_on_two_processes(data, results, chosen):
    with LocalEngine(data, 2) as engine:
        again = search(data, engine, trials=TRIALS, seed=5)
        assert figures(again) == figures(results)
        assert choose(data, engine, again, seed=5) == chosen


def test_choice_fits_nothing_again_that_the_search_has_scored(data, searched, chosen):
    results, scored, engine = searched
    fits = engine.fits
    assert choose(data, engine, results, seed=5, scored=scored) == chosen
    assert engine.fits == fits
    # What a killed try has recorded was scored by another process.
    choose(data, engine, results, seed=5, scored={})
    families = {result.parameters["family"] for result in results if not result.pruned}
    assert engine.fits == fits + FOLDS * len(families)


class RehearsedEngine:
    """Answers at once: linear models know the outcome, the other families guess."""

    name = "rehearsed"

    def __init__(self, data):
        self.data = data

    def map(self, function, tasks):
        answers = []
        for task in tasks:
            y = self.data.y[self.data.fold_of[task.repeat] == task.fold]
            noise = np.random.default_rng(task.fold).random(len(y))
            answers.append(y + noise if task.parameters["family"] == "logistic" else noise)
        return answers


def test_search_with_another_seed_gives_other_trials(data):
    again, same, other = (
        [result.parameters for result in search(data, RehearsedEngine(data), trials=TRIALS, seed=seed)]
        for seed in (5, 5, 6)
    )
    assert again == same
    assert other != same
    assert other[: len(FAMILIES)] == same[: len(FAMILIES)], "each family's starting point comes first"


def test_search_tries_every_family_first_and_prunes_what_is_worse(data):
    results = search(data, RehearsedEngine(data), trials=20, seed=5)
    assert {result.parameters["family"] for result in results[:3]} == set(FAMILIES)
    assert [result.number for result in results] == list(range(20))
    assert all(len(result.scores) == (1 if result.pruned else REPEATS) for result in results)
    pruned = {result.parameters["family"] for result in results if result.pruned}
    assert pruned
    assert "logistic" not in pruned


def test_resumed_search_takes_recorded_trials_and_computes_only_the_rest(data, results):
    engine, recorded = InlineEngine(data), []
    known = {result.number: result for result in results[:4]}
    again = search(data, engine, trials=TRIALS, seed=5, recorded=known, record=recorded.append)
    assert figures(again) == figures(results)
    assert [result.number for result in recorded] == [4]
    assert engine.fits == FOLDS * sum(len(result.scores) for result in results[4:])


def test_fold_holds_both_outcomes_and_never_splits_a_group(synthetic):
    groups = np.repeat(np.arange(300), 2)
    folds = split_folds(synthetic.y, groups, 2, 1)
    assert folds.shape == (2, 600)
    for repeat in folds:
        assert all(len(set(repeat[groups == group])) == 1 for group in range(300))
        assert all(0 < synthetic.y[repeat == fold].mean() < 1 for fold in range(FOLDS))
    assert (folds[0] != folds[1]).any()


def test_folds_take_text_as_groups(synthetic):
    texts = np.repeat([f"machine {number}" for number in range(300)], 2).astype(object)
    np.testing.assert_array_equal(
        split_folds(synthetic.y, texts, 1, 1), split_folds(synthetic.y, np.unique(texts, return_inverse=True)[1], 1, 1)
    )


def test_use_case_brings_its_own_search_space(tmp_path, monkeypatch, data):
    own = tmp_path / "own_search"
    own.mkdir()
    (own / "__init__.py").write_text(
        "from msgspec.structs import replace\n"
        "from training.use_case import load\n"
        "USE_CASE = replace(load('attrition'), name='own_search', title='Own', model='own')\n"
    )
    (own / "search.py").write_text(
        "FAMILIES = ('logistic',)\n"
        "STARTING_POINTS = ()\n"
        "def suggest(trial):\n"
        "    c = trial.suggest_float('C', 0.01, 1)\n"
        "    return {'family': 'logistic', 'knots': 0, 'alpha': 1.0, 'C': c}\n"
    )
    monkeypatch.setattr(use_cases, "__path__", [*use_cases.__path__, str(tmp_path)])
    space = space_of(load("own_search"))
    assert space.make is space_of(load("attrition")).make
    data = msgspec.structs.replace(data, space=space)
    results = search(data, InlineEngine(data), trials=3, seed=5)
    assert {result.parameters["family"] for result in results} == {"logistic"}
    assert {result.parameters["knots"] for result in results} == {0}
    members, _ = choose(data, InlineEngine(data), results, seed=5)
    assert [member.parameters["family"] for member in members] == ["logistic"]


def test_ensemble_gives_a_misleading_member_no_weight_and_calibrates_the_rest():
    rng = np.random.default_rng(0)
    odds = rng.normal(-1.5, 1.2, 4000)
    y = (rng.random(4000) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    misleading = rng.normal(size=4000) - (y - y.mean())
    scores = np.column_stack([2 * odds + 1, misleading])  # the first is right but overconfident
    members, bias = fit_weights([{"family": "logistic"}, {"family": "forest"}], scores, y)
    assert [member.parameters["family"] for member in members] == ["logistic"]
    assert members[0].weight == pytest.approx(0.5, abs=0.05)
    assert bias == pytest.approx(-0.5, abs=0.1)


def test_member_joins_the_ensemble_only_if_it_pays_for_itself():
    rng = np.random.default_rng(1)
    first, second, copy = rng.normal(size=(3, 1500))
    y = (rng.random(1500) < 1 / (1 + np.exp(-(first + 0.8 * second)))).astype(np.int64)
    scores = np.column_stack([first, second, first + 0.3 * copy])  # the third says what the first says
    members, _ = fit_weights([{"family": "logistic"}, {"family": "boosting"}, {"family": "forest"}], scores, y)
    assert [member.parameters["family"] for member in members] == ["logistic", "boosting"]


def test_unknown_engine_is_refused(data, monkeypatch):
    monkeypatch.setenv(ENGINE_VARIABLE, "dask")
    with pytest.raises(ValueError, match="LIFECYCLE_ENGINE is 'dask': use spark or local"), open_engine(data, 1):
        pass
