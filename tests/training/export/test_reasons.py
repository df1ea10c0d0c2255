"""Reasons are exact Shapley values that add up to the served probability."""

import functools
import json
import math
from itertools import combinations

import msgspec
import numpy as np
import pytest
from scipy.special import expit

from serving.scoring.bundle import Bundle, NoReasonsError
from serving.scoring.reasons import Reasons
from tests.support.reasons_oracle import COMMITTED, MEMBERS, SEED, some_rows, stacked
from training.export import reasons as export
from training.export.bundle import write_bundle
from training.export.classifier import take_apart
from training.export.outliers import Outliers
from training.export.parity import generate_rows
from training.export.reasons import background, reasons_arrays
from training.search.ensemble import Member, StackedEnsemble
from training.search.space import space_of

CASES = {name: [member] for name, member in MEMBERS.items()} | {"all of them": list(MEMBERS.values())}


def reasons_of(ensemble, x, rows=None):
    return Reasons(reasons_arrays(take_apart(ensemble), background(x, SEED) if rows is None else rows), x.shape[1])


@pytest.mark.parametrize("name", MEMBERS)
def test_fifty_rows_have_the_reasons_that_shap_gave_them(name, real):
    committed = json.loads(COMMITTED.read_text())[name]
    ensemble = stacked(real, [MEMBERS[name]])
    if committed["fitted"]:
        model = ensemble.pipelines_[0][-1]
        model.coef_, model.intercept_ = map(np.array, committed["fitted"])
    reasons = reasons_of(ensemble, real.x)
    assert reasons.base == pytest.approx(committed["base"], abs=1e-6)
    np.testing.assert_allclose(reasons.effects(real.x[some_rows(real)]), committed["effects"], atol=1e-6)


@pytest.mark.parametrize("members", CASES.values(), ids=CASES)
def test_base_and_effects_add_up_for_real_and_for_generated_rows(members, real):
    ensemble = stacked(real, members)
    x = np.vstack([real.x[:150], generate_rows(real.use_case.features, real.x, 150, 4)])
    reasons = reasons_of(ensemble, real.x)
    effects = reasons.effects(x)
    sums = reasons.base + effects.sum(axis=1)
    np.testing.assert_allclose(expit(sums), ensemble.predict_proba(x)[:, 1], atol=1e-9)
    one_by_one = np.vstack([reasons.effects(x[[row]]) for row in range(0, 300, 30)])
    np.testing.assert_allclose(one_by_one, effects[::30], atol=1e-12)


@pytest.mark.parametrize("name", MEMBERS)
def test_effects_are_those_of_all_coalitions(name, real):
    """By the definition: every coalition of six numbers, which have a column each, against every background row."""
    chosen = [p for p, field in enumerate(real.use_case.features) if field.kind != "category"][:6]
    space = msgspec.structs.replace(
        space_of(real.use_case), features=tuple(real.use_case.features[place] for place in chosen)
    )
    x = generate_rows(space.features, real.x[:, chosen], 300, 2)
    ensemble = StackedEnsemble(space, [MEMBERS[name]], 0.2, 1).fit(x, real.y[:300])
    rows, records, count = x[:9], x[100:106], len(chosen)

    @functools.cache  # each coalition is asked about once for every player
    def value(record, coalition):
        mixed, columns = rows.copy(), list(coalition)
        mixed[:, columns] = records[record, columns]
        p = ensemble.predict_proba(mixed)[:, 1]
        return np.log(p / (1 - p)).mean()

    def effect(record, player):
        others = [other for other in range(count) if other != player]
        return sum(
            math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            * (value(record, frozenset((*coalition, player))) - value(record, frozenset(coalition)))
            for size in range(count)
            for coalition in combinations(others, size)
        )  # fmt: skip

    wanted = [[effect(record, player) for player in range(count)] for record in range(len(records))]
    np.testing.assert_allclose(reasons_of(ensemble, x, rows).effects(records), wanted, atol=1e-9)


@pytest.fixture(scope="module")
def outliers(real):
    return Outliers(1).fit(real.x)


def test_bundle_explains_in_words_and_never_by_fields_that_no_model_sees(real, outliers, tmp_path):
    ensemble = stacked(real, list(MEMBERS.values()))
    write_bundle(tmp_path, "employee_attrition", ensemble, outliers, real, real)
    bundle = Bundle.load(tmp_path)
    examples = json.loads((tmp_path / "examples.json").read_text())
    seen = {field.name for field in bundle.contract.features}
    assert len(examples["reasons"]) == len(examples["records"])
    named = {name for effects in examples["reasons"] for name in effects}
    assert named <= seen
    assert len(named) > 6
    assert bundle.contract.key == "EmployeeNumber"


def test_band_holds_the_share_of_the_holdout(real, outliers, tmp_path):
    ensemble = stacked(real, [MEMBERS["logistic"]])
    write_bundle(tmp_path, "employee_attrition", ensemble, outliers, real, real.take(np.arange(len(real.x)) < 500))
    bundle = Bundle.load(tmp_path)
    assert bundle.contract.band is not None
    assert bundle.contract.band.title == "top 20%"
    assert (bundle.probabilities(real.x[:500]) > bundle.contract.band.cut).sum() == 100


def test_model_whose_reasons_would_be_too_large_has_none(real, outliers, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_MOST_LEAVES", 100)
    write_bundle(tmp_path, "employee_attrition", stacked(real, [MEMBERS["forest"]]), outliers, real)
    bundle = Bundle.load(tmp_path)
    assert bundle.reasons is None
    assert "reasons" not in json.loads((tmp_path / "examples.json").read_text())
    with pytest.raises(NoReasonsError, match="gives no reasons"):
        list(bundle.explain(np.zeros((1, len(bundle.contract.fields))), lambda record, name: ""))


def test_reasons_that_do_not_add_up_to_what_is_served_are_not_given(real, outliers, tmp_path, monkeypatch):
    monkeypatch.setattr(
        export, "reasons_arrays", lambda parts, rows: reasons_arrays(parts, rows) | {"base": np.float64(0.1)}
    )
    write_bundle(tmp_path, "employee_attrition", stacked(real, [MEMBERS["logistic"]]), outliers, real)
    assert Bundle.load(tmp_path).reasons is None


def test_search_that_takes_several_linear_members_is_explained(real):
    pairs = [Member(MEMBERS["logistic"].parameters | {"knots": knots}, 0.5) for knots in (0, 3)]
    ensemble = stacked(real, pairs)
    reasons = reasons_of(ensemble, real.x)
    sums = reasons.base + reasons.effects(real.x).sum(axis=1)
    np.testing.assert_allclose(expit(sums), ensemble.predict_proba(real.x)[:, 1], atol=1e-9)
