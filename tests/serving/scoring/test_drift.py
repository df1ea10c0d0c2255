"""P-values equal SciPy's, on the real data and at the corners."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from serving.scoring import chi2, ks
from serving.scoring.bundle import Bundle
from serving.scoring.category_drift import CategoryDrift
from serving.scoring.drift import adjust
from serving.scoring.encode import as_columns, encode_fields
from serving.scoring.numeric_drift import NumericDrift
from tests.support.serving_bundles import Attrition

TOLERANCE = 1e-9


def scipy_p_values(bundle: Bundle, folder: str, fields: NDArray[np.float64]) -> dict[str, float]:
    """What SciPy says of encoded fields against ``drift.npz``."""
    arrays = np.load(f"{folder}/drift.npz")
    result = {}
    for position, field in enumerate(bundle.contract.fields):
        if not field.drift:
            continue
        values = fields[:, position]
        values = values[~np.isnan(values)]
        if field.kind == "category":
            reference = arrays[f"count:{field.name}"]
            codes = np.where(values < 0, len(field.categories), values).astype(int)
            table = np.vstack([reference, np.bincount(codes, minlength=len(reference))])
            result[field.name] = stats.chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue
        else:
            result[field.name] = stats.ks_2samp(arrays[f"ref:{field.name}"], values).pvalue
    return result


@pytest.mark.parametrize("count", [1, 2, 3, 10, 47, 100, 1000])
def test_p_values_of_real_requests_equal_scipys(attrition: Attrition, bundle: Bundle, count: int) -> None:
    for seed in range(3):
        records = attrition.records(count, seed=seed)
        if seed == 1:  # a drifted request
            records = [record | {"Age": 60, "OverTime": "Yes", "JobRole": "Astronaut"} for record in records]
        if seed == 2 and count > 1:  # one with missing values
            records = [
                record | ({"MonthlyIncome": None, "Gender": None} if n % 2 else {}) for n, record in enumerate(records)
            ]
        fields = encode_fields(as_columns(records, bundle.contract), bundle.contract)
        ours = dict(zip(bundle.drift.names, bundle.drift.p_values(fields), strict=True))
        assert ours == pytest.approx(scipy_p_values(bundle, str(attrition.folder), fields), abs=TOLERANCE)


def test_every_single_record_p_value_equals_scipys_for_every_value_of_the_data(
    attrition: Attrition, bundle: Bundle
) -> None:
    fields = encode_fields(attrition.employees.columns(), bundle.contract)
    for row in fields[::97]:
        ours = dict(zip(bundle.drift.names, bundle.drift.p_values(row[None, :]), strict=True))
        assert ours == pytest.approx(scipy_p_values(bundle, str(attrition.folder), row[None, :]), abs=TOLERANCE)


@pytest.mark.parametrize(
    ("n", "m"),
    [(1, 1), (1, 7), (7, 1), (2, 2), (5, 5), (9, 12), (30, 30), (100, 147), (147, 100), (13, 1470), (1470, 1470)],
)
@pytest.mark.filterwarnings("ignore:ks_2samp. Exact calculation unsuccessful")  # SciPy's, where its value is 1
def test_exact_ks_p_values_equal_scipys_for_every_statistic(n: int, m: int) -> None:
    lcm = math.lcm(n, m)
    h = np.unique(np.linspace(0, lcm, 12).astype(np.int64))
    # SciPy has no function of the statistic alone, so samples are made that have it.
    for statistic in h:
        first = np.arange(n, dtype=float)
        second = np.linspace(-1, n, m) + (statistic / lcm) * n
        result = stats.ks_2samp(first, second, method="exact")
        found = ks.p_values(np.array([round(result.statistic * lcm)]), n, m)
        assert found[0] == pytest.approx(result.pvalue, abs=TOLERANCE)


def test_large_ks_statistic_is_a_tiny_p_value_and_not_negative() -> None:
    assert 0 <= ks.p_values(np.array([1000 * 1470 // 10]), 1000, 1470)[0] < 1e-12


def test_asymptotic_ks_is_close_to_scipys_where_samples_are_too_large_for_exact_counts() -> None:
    rng = np.random.default_rng(0)
    reference, sample = rng.normal(size=12_000), rng.normal(0.02, 1, size=11_000)
    result = stats.ks_2samp(reference, sample)
    found = ks.p_values(np.array([round(result.statistic * math.lcm(12_000, 11_000))]), 11_000, 12_000)
    assert found[0] == pytest.approx(result.pvalue, abs=5e-3)


@pytest.mark.parametrize("n", [40, 400])
def test_fractional_and_wide_references_are_searched_with_the_same_answer(n: int) -> None:
    rng = np.random.default_rng(1)
    references = [
        rng.normal(size=300),
        rng.integers(0, 10**7, 300).astype(float),
        rng.integers(0, 5, 300).astype(float),
        rng.integers(0, 5, 300).astype(float),  # whole by chance: what is asked need not be
    ]
    drift = NumericDrift(references, [False, True, True, False])
    samples = np.stack(
        [rng.normal(0.3, 1, n), rng.integers(0, 10**7, n), rng.integers(-2, 9, n), rng.integers(0, 10, n) / 2]
    )
    samples[0, 3] = samples[2, 5] = np.nan
    expected = [stats.ks_2samp(r, s[~np.isnan(s)]).pvalue for r, s in zip(references, samples, strict=True)]
    np.testing.assert_allclose(drift.p_values(samples), expected, atol=TOLERANCE)


@pytest.mark.parametrize("n", [3, 400])
def test_field_without_any_value_has_p_value_one(n: int) -> None:
    drift = NumericDrift([np.arange(10.0), np.arange(10.0)], [True, False])
    samples = np.full((2, n), np.nan)
    samples[1, :2] = 1.0, 2.0
    p_values = drift.p_values(samples)
    assert p_values[0] == 1.0
    assert p_values[1] == pytest.approx(stats.ks_2samp(np.arange(10.0), [1.0, 2.0]).pvalue, abs=TOLERANCE)
    assert CategoryDrift([np.array([4.0, 6.0, 0.0])]).p_values(np.full((1, 3), np.nan)) == [1.0]


def test_remembered_p_values_are_the_computed_ones() -> None:
    drift = NumericDrift([np.arange(50.0)], [True])
    sample = np.array([[3.0, 9.0, 30.0]])
    assert drift.p_values(sample) == drift.p_values(sample)


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 9, 40, 301])
def test_chi_square_survival_equals_scipys(freedom: int) -> None:
    for x in (0.0, 1e-9, 0.5, 3.84, freedom, 3.0 * freedom, 2000.0):
        assert chi2.survival(x, freedom) == pytest.approx(stats.chi2.sf(x, freedom), abs=1e-12, rel=1e-9)


def test_chi_square_with_two_categories_has_yates_correction() -> None:
    for sample in ([8, 2, 0], [3, 7, 0], [31, 69, 0]):  # far off, off by nothing, off by less than the correction
        expected = stats.chi2_contingency([[30, 70], sample[:2]]).pvalue
        assert chi2.p_value(sample, [30, 70, 0]) == pytest.approx(expected, abs=TOLERANCE)


def test_chi_square_of_one_category_or_an_empty_sample_says_nothing() -> None:
    assert chi2.p_value([10, 0, 0], [100, 0, 0]) == 1.0
    assert chi2.p_value([0, 0], [30, 70]) == 1.0


def test_adjusted_p_values_equal_scipys_benjamini_hochberg() -> None:
    p_values = np.random.default_rng(4).random(34) ** 3
    np.testing.assert_allclose(adjust(p_values), stats.false_discovery_control(p_values), atol=1e-15)
