"""Tables are read by their definition, and refused with what to do."""

from datetime import date

import msgspec
import numpy as np
import pandas as pd
import pytest

from tests.training.forecasting.conftest import MONDAY, PLAIN
from training.forecasting.definition import DefinitionError, Known, Quantity, Series
from training.forecasting.series import TableError, codes_of, last_week, make_panel, split
from use_cases.demand.fields import SERIES


def no_plan():
    return pd.DataFrame(columns=PLAIN.plan_columns)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": ()}, "key is empty"),
        ({"key": ("place", "day")}, "named more than once: day"),
        ({"censored": "stock"}, "censored is 'stock'"),
        ({"gap": 0}, "at least 1"),
        ({"levels": (("place",),)}, r"\(place\) is not a smaller part of the key \(place\)"),
    ],
)
def test_a_definition_that_contradicts_itself_is_refused(change, said):
    with pytest.raises(DefinitionError, match=said):
        msgspec.structs.replace(PLAIN, **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="cost"), "no column cost"),
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: t.assign(amount=-1), "24 negative"),
        (lambda t: t.assign(amount=np.nan), "amount has no value"),
        (lambda t: t.assign(visitors="many"), "visitors is not a number in 24 rows"),
        (lambda t: t.assign(place=None), "place is empty in 24 rows"),
        (lambda t: pd.concat([t, t.iloc[:3]]), "3 rows whose key"),
        (lambda t: t.assign(day="soon"), "day is not a date in 24 rows"),
        (lambda t: t.assign(day=[*t["day"][:23], t["day"][23] + pd.Timedelta(days=1)]), "Monday, Tuesday"),
    ],
)  # fmt: skip
def test_a_history_that_is_not_as_it_should_be_is_refused_with_what_is_wrong(table, change, said):
    changed = change(table)
    with pytest.raises(TableError, match=said):
        make_panel(changed, no_plan(), PLAIN, {})


def test_a_plan_is_checked_as_well(table):
    with pytest.raises(TableError, match="the plan has no column offer"):
        make_panel(table, table[["place", "day", "cost"]], PLAIN, {})


def test_dates_come_back_from_the_numbers_of_weeks(table):
    panel = make_panel(table, no_plan(), PLAIN, {})
    found = panel.date_of(panel.observed["t"].to_numpy()[:12])
    assert (found == table["day"].to_numpy()[:12].astype("datetime64[D]")).all()
    assert last_week(table, PLAIN) == date(2026, 3, 23)


def test_a_week_without_a_row_is_zero_or_unknown_as_the_definition_says(table):
    gappy = table.drop(index=[4, 5, 11])
    zero = make_panel(gappy, no_plan(), msgspec.structs.replace(PLAIN, absent="zero"), {}).observed
    own = zero[zero["series"] == 0]
    assert own["y"].tolist() == [10, 11, 12, 13, 0, 0, 16, 17, 18, 19, 20, 0]  # to the last week of the whole table
    assert own["written"].tolist() == [week not in (4, 5, 11) for week in range(12)]
    assert len(make_panel(gappy, no_plan(), PLAIN, {}).observed) == 21


def test_an_ended_series_is_not_zero_after_its_end(table):
    definition = msgspec.structs.replace(PLAIN, absent="zero", ended_after=3)
    panel = make_panel(table.drop(index=[9, 10, 11]), no_plan(), definition, {})
    assert (panel.observed["series"] == 0).sum() == 9
    assert panel.active()["series"].tolist() == [1]


def test_censored_weeks_are_unknown(table):
    definition = msgspec.structs.replace(PLAIN, censored="visitors")
    panel = make_panel(table, no_plan(), definition, {})
    assert panel.observed["y"].notna().sum() == 2  # both first weeks have no visitors


def test_a_value_that_training_has_not_seen_has_no_code(table):
    codes = codes_of(table, PLAIN)
    assert codes == {"place": ["A", "B"]}
    panel = make_panel(table.replace({"place": {"A": "Z"}}), no_plan(), PLAIN, codes)
    assert panel.described["c0"].tolist()[0] == 1
    assert np.isnan(panel.described["c0"].tolist()[1])


def test_until_a_week_is_the_panel_of_the_table_up_to_it(shops):
    codes = codes_of(shops.history, SERIES)
    whole = make_panel(shops.history, shops.plan, SERIES, codes)
    origin = whole.last - 40
    known, _ = split(shops.history, SERIES, whole.date_of(np.array([origin]))[0].item())
    cut = make_panel(known, shops.plan, SERIES, codes)
    until = whole.until(origin)
    names = dict(enumerate(whole.keys.agg(tuple, axis=1)))
    cut_names = dict(enumerate(cut.keys.agg(tuple, axis=1)))

    def by_name(frame, known):
        frame = frame.assign(series=frame["series"].map(known))
        return frame.sort_values([c for c in ("series", "t") if c in frame], ignore_index=True)

    pd.testing.assert_frame_equal(by_name(until.observed, names), by_name(cut.observed, cut_names))
    pd.testing.assert_frame_equal(by_name(until.described, names), by_name(cut.described, cut_names), check_dtype=False)


def test_the_smallest_definition_has_a_key_a_time_and_a_label():
    definition = Series(key=("k",), time="t", label=Quantity("n"))
    assert definition.columns == ("k", "t", "n")
    assert definition.plan_columns == ("k", "t")
    assert definition.steps == range(1, 14)
    assert Known("p", "last") == Known("p", "last")
    assert MONDAY.weekday() == 0
