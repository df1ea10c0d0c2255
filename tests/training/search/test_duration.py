import msgspec

from training.search.duration import expected_minutes, long_training
from use_cases.attrition import USE_CASE


def test_expected_time_grows_with_rows_and_trials():
    many = expected_minutes(100_000, USE_CASE)
    assert many > 10
    assert expected_minutes(100_000, msgspec.structs.replace(USE_CASE, trials=3)) < many / 2


def test_long_training_is_told_with_what_to_do_and_a_short_one_is_not():
    told = long_training(100_000, USE_CASE)
    assert f"With {USE_CASE.trials} trials the training will take about" in told
    assert f"[use_cases.{USE_CASE.name}]" in told
    assert long_training(1470, USE_CASE) == ""
