"""Group figures, counted by hand."""

import msgspec
import numpy as np

from training.evaluation.binary import resamples
from training.evaluation.fairness import assess, groups_of


def test_group_figures_equal_a_count_by_hand(synthetic):
    p = np.random.default_rng(0).random(len(synthetic.y))
    found = assess(synthetic, p, resamples(synthetic.y, 1))
    women = (synthetic.frame["Gender"] == "Female").to_numpy()
    picked = p >= np.sort(p)[-round(0.2 * len(p))]
    shown = found["groups"]["Gender"]["Female"]
    assert shown["rows"] == women.sum()
    assert shown["selection_rate"] == round(picked[women].mean(), 4)
    assert shown["true_positive_rate"] == round(picked[women & (synthetic.y == 1)].mean(), 4)
    assert shown["calibration"] == round(p[women].mean() - synthetic.y[women].mean(), 4)
    assert set(found["groups"]) == {"Gender", "MaritalStatus", "Age"}


def test_model_that_picks_out_one_group_has_a_gap_that_is_certain(synthetic):
    women = (synthetic.frame["Gender"] == "Female").to_numpy()
    p = np.where(women, 0.6, 0.1) + np.random.default_rng(0).random(len(women)) / 100
    gap = assess(synthetic, p, resamples(synthetic.y, 1))["largest_gaps"]["true_positive_rate"]
    assert gap["attribute"] == "Gender"
    assert gap["low"] > 0.2


def test_group_with_few_positives_is_shown_but_does_not_count(synthetic):
    frame = synthetic.frame.copy()
    frame["Gender"] = "Male"
    leaver = frame.index[synthetic.y == 1][0]
    frame.loc[leaver, "Gender"] = "Female"
    altered = msgspec.structs.replace(synthetic, frame=frame)
    p = np.zeros(len(frame)) + np.arange(len(frame)) * 1e-6
    p[leaver] = 1.0
    found = assess(altered, p, resamples(synthetic.y, 1))
    assert found["groups"]["Gender"]["Female"]["true_positive_rate"] == 1.0
    assert found["largest_gaps"]["true_positive_rate"]["attribute"] != "Gender"


def test_bands_divide_a_number_and_rows_without_a_value_belong_to_none(synthetic):
    frame = synthetic.frame.copy()
    frame["Age"] = np.resize([29.9, 30, 39, 50, np.nan], len(frame))
    columns = msgspec.structs.replace(synthetic, frame=frame).columns()
    rows = {name: members.sum() for name, members in groups_of(synthetic.use_case, columns)["Age"].items()}
    assert rows == {"under 30": 120, "30 to under 40": 240, "50 and over": 120}


def test_field_that_the_table_does_not_have_makes_no_groups(synthetic):
    frame = synthetic.frame.assign(Gender=None)
    found = assess(msgspec.structs.replace(synthetic, frame=frame), np.full(len(frame), 0.2), resamples(synthetic.y, 1))
    assert found["groups"]["Gender"] == {}
    assert found["groups"]["MaritalStatus"]
