"""The design matrix: what a missing, unknown or extreme value means."""

import tracemalloc

import numpy as np
import pytest

from training.search.design import DesignMatrix
from training.use_case import load

FEATURES = load("attrition").features
CATEGORIES = tuple(column for column, field in enumerate(FEATURES) if field.kind == "category")


def feature_index(name):
    return [field.name for field in FEATURES].index(name)


@pytest.fixture(scope="module")
def fitted(synthetic):
    return DesignMatrix(CATEGORIES, knots=2).fit(synthetic.x, synthetic.y)


def test_linear_design_is_standardised(fitted, synthetic):
    columns = fitted.transform(synthetic.x)
    np.testing.assert_allclose(columns.mean(axis=0), 0, atol=1e-6)
    spread = columns.std(axis=0)
    np.testing.assert_allclose(spread[spread > 0], 1, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, -1.0, 99.0], ids=["missing", "unknown", "never seen"])
def test_category_that_is_not_known_moves_a_linear_model_in_no_direction(value, fitted, synthetic):
    row = synthetic.x[:1].copy()
    row[0, feature_index("JobRole")] = value
    own = fitted.fields() == feature_index("JobRole")
    np.testing.assert_allclose(fitted.transform(row)[0, own], 0, atol=1e-5)


def test_missing_level_moves_a_linear_model_in_no_direction(fitted, synthetic):
    row = synthetic.x[:1].copy()
    row[0, feature_index("JobLevel")] = np.nan
    own = fitted.fields() == feature_index("JobLevel")
    assert own.sum() == 4
    np.testing.assert_allclose(fitted.transform(row)[0, own], 0, atol=1e-5)


def test_level_above_all_seen_counts_as_the_highest_seen(fitted, synthetic):
    rows = np.repeat(synthetic.x[:1], 2, axis=0)
    rows[:, feature_index("NumCompaniesWorked")] = [9, 40]
    columns = fitted.transform(rows)
    np.testing.assert_array_equal(columns[0], columns[1])


def test_missing_number_counts_as_the_median_and_a_huge_one_as_the_largest_seen(fitted, synthetic):
    column = feature_index("MonthlyIncome")
    rows = np.repeat(synthetic.x[:1], 4, axis=0)
    rows[:, column] = [np.nan, np.median(synthetic.x[:, column]), 1e6, synthetic.x[:, column].max()]
    columns = fitted.transform(rows)
    np.testing.assert_array_equal(columns[0], columns[1])
    np.testing.assert_array_equal(columns[2], columns[3])


def test_alpha_leaves_out_fields_that_say_nothing_by_the_training_rows_alone(synthetic):
    noise, kept = feature_index("HourlyRate"), 0
    for seed in range(12):
        x = synthetic.x.copy()
        x[:, noise] = np.random.default_rng(seed).integers(30, 100, len(x))
        fields = DesignMatrix(CATEGORIES, alpha=0.1).fit(x, synthetic.y).fields()
        kept += noise in fields
        assert feature_index("OverTime") in fields
    assert kept <= 4  # one in ten by chance
    assert noise in DesignMatrix(CATEGORIES, alpha=1.0).fit(synthetic.x, synthetic.y).fields()


def test_constant_or_empty_column_is_left_out(synthetic):
    x = synthetic.x.copy()
    x[:, feature_index("DailyRate")] = 7
    x[1:, feature_index("HourlyRate")] = np.nan
    design = DesignMatrix(CATEGORIES).fit(x, synthetic.y)
    assert not {feature_index("DailyRate"), feature_index("HourlyRate")} & set(design.fields())
    assert np.isfinite(design.transform(x)).all()


def test_tree_design_keeps_exact_values(synthetic):
    design = DesignMatrix(CATEGORIES, linear=False).fit(synthetic.x, synthetic.y)
    columns = design.transform(synthetic.x)
    assert columns.dtype == np.float32
    numbers = columns[:, len(design.asked_) :]
    np.testing.assert_array_equal(numbers, synthetic.x[:, design.number_columns_])


def test_levels_and_skewed_numbers_are_found_in_the_training_rows(real):
    design = DesignMatrix(CATEGORIES).fit(real.x, real.y)
    names = [field.name for field in FEATURES]
    assert {names[column] for column in design.asked_[design.step_]} == {
        *("Education", "EnvironmentSatisfaction", "JobInvolvement", "JobLevel", "JobSatisfaction"),
        *("NumCompaniesWorked", "PerformanceRating", "RelationshipSatisfaction", "StockOptionLevel"),
        *("TrainingTimesLastYear", "WorkLifeBalance"),
    }
    assert {names[column] for column in design.number_columns_[design.skewed_]} == {
        *("DistanceFromHome", "MonthlyIncome", "TotalWorkingYears", "YearsAtCompany"),
        *("YearsInCurrentRole", "YearsSinceLastPromotion", "YearsWithCurrManager"),
    }


def test_negative_numbers_count_as_known_and_are_never_taken_by_ratio():
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.exponential(9, 400) - 5, rng.choice([-2, -1], 400)]).astype(np.float32)
    design = DesignMatrix(()).fit(x, (rng.random(400) < 0.5).astype(np.int64))
    assert design.fields().tolist() == [1, 0, 0, 0]
    assert not design.skewed_.any()


@pytest.mark.parametrize("categories", [(), (0, 1)], ids=["numbers only", "categories only"])
@pytest.mark.parametrize("linear", [True, False])
def test_table_may_hold_one_kind_of_field_alone(categories, linear):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 40, (400, 2)).astype(np.float32)
    columns = DesignMatrix(categories, linear=linear).fit(x, (rng.random(400) < 0.5).astype(np.int64)).transform(x)
    assert columns.shape[0] == 400
    assert np.isfinite(columns).all()


def test_large_table_takes_hardly_more_memory_than_its_design_and_none_of_it_is_kept():
    rng = np.random.default_rng(5)
    rows = 4000
    x = np.column_stack([rng.integers(0, 60, (rows, 6)), rng.normal(size=(rows, 6))]).astype(np.float32)
    y = (x[:, 6] + rng.normal(size=rows) > 0).astype(np.int64)
    tracemalloc.start()
    design = DesignMatrix(tuple(range(6)), alpha=0.5)
    size = design.fit(x, y).transform(x).nbytes
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2.5 * 8 * rows * (6 * 60 + 6 * 3), "the screening looks at all columns"
    assert size <= 8 * rows * (6 * 60 + 6 * 3)
    assert kept < x.nbytes, "a cache holds the rows"
