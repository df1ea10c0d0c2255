"""The tables of a forecast: reading, checking, the weekly calendar, and the codes of the series."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.forecasting.definition import Series

Codes = Mapping[str, list[Any]]
"""For each field of the key its values in order; a value's place is its code."""


class TableError(ValueError):
    """Raised for tables that cannot be forecast from: what is wrong, in which column, and what to do."""


class Panel(msgspec.Struct, frozen=True):
    """Both tables under the names that the statements use, whatever the fields are called.

    ``series`` numbers the series from 0, ``t`` the weeks. ``c0, c1, ...`` are codes of the key's fields, ``k0, ...``
    known fields, ``u0, ...`` unknown and ``s0, ...`` static ones, in the order of the definition.
    """

    definition: Series
    keys: pd.DataFrame
    """The key's fields, a row for each series, sorted."""
    described: pd.DataFrame
    """``series, first, last`` (weeks with rows), ``c*`` (null for a value without code) ``, s*``."""
    observed: pd.DataFrame
    """``series, t, y, k*, u*, written``; ``y`` is null where the quantity is unknown. ``written`` is false for weeks of
    zero that the history has no row for."""
    planned: pd.DataFrame
    """``series, t, k*``, for series that the history has."""
    last: int
    """The last week of the history."""
    day: int
    """Days from the day of the week that ``t`` counts from to the one that the tables have."""

    def date_of(self, t: NDArray[np.int64]) -> NDArray[np.datetime64]:
        """The first day of weeks."""
        result: NDArray[np.datetime64] = np.asarray(t * 7 + self.day).astype("datetime64[D]")
        return result

    def until(self, origin: int) -> "Panel":
        """What was known at the end of a week; the plan stays as it is."""
        observed = self.observed[self.observed["t"] <= origin]
        described = self.described[self.described["first"] <= origin]
        last = observed[observed["written"]].groupby("series")["t"].max()
        described = described.assign(last=described["series"].map(last))
        ended = described["series"][described["last"] <= origin - self.definition.ended_after]
        observed = observed[observed["written"] | ~observed["series"].isin(ended)]
        return msgspec.structs.replace(self, observed=observed, described=described, last=origin)

    def active(self) -> pd.DataFrame:
        """The series that have not ended, as in ``described``."""
        return self.described[self.described["last"] > self.last - self.definition.ended_after]


def last_week(history: pd.DataFrame, definition: Series) -> date:
    """The first day of the last week that the history has."""
    return date.fromisoformat(str(_days(history, definition, "history").max()))


def split(history: pd.DataFrame, definition: Series, week: date) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows up to a week, and those after it."""
    known = _days(history, definition, "history") <= np.datetime64(week, "D")
    return history[known], history[~known]


def check_history(history: pd.DataFrame, definition: Series) -> None:
    """Raise ``TableError`` unless columns, types, days of the week, amounts and keys are as the definition says."""
    _check(history, definition, definition.columns, "history")
    label = definition.label.field
    amounts = pd.to_numeric(history[label], errors="coerce")
    if (amounts < 0).any() or np.isinf(amounts).any():
        raise TableError(
            f"{label} has {int((amounts < 0).sum())} negative and {int(np.isinf(amounts).sum())} infinite values: a "
            "quantity is at least zero; leave it empty where it is unknown"
        )
    if not amounts.notna().any():
        raise TableError(f"{label} has no value: there is nothing to learn from")


def check_plan(plan: pd.DataFrame, definition: Series) -> None:
    """Raise ``TableError`` unless columns, types, days of the week and keys are as the definition says."""
    _check(plan, definition, definition.plan_columns, "plan")


def codes_of(history: pd.DataFrame, definition: Series) -> dict[str, list[Any]]:
    """The values of each field of the key, sorted."""
    return {name: sorted(_plain(value) for value in history[name].unique()) for name in definition.key}


def make_panel(history: pd.DataFrame, plan: pd.DataFrame, definition: Series, codes: Codes) -> Panel:
    """Check both tables, and bring them under the names of the statements. Raises ``TableError``."""
    check_history(history, definition)
    check_plan(plan, definition)
    days = _days(history, definition, "history")
    planned_days = _days(plan, definition, "plan")
    weekdays = np.unique(np.concatenate([days, planned_days]).astype(np.int64) % 7)
    if len(weekdays) > 1:
        shown = ", ".join((date(1970, 1, 1) + timedelta(days=int(day))).strftime("%A") for day in weekdays)
        raise TableError(f"{definition.time} has more than one day of the week ({shown}): name every week by one day")
    key = list(definition.key)
    keys = history[key].drop_duplicates().sort_values(key).reset_index(drop=True)
    numbers = keys.assign(series=np.arange(len(keys)))
    t = days.astype(np.int64) // 7
    observed = pd.DataFrame({"series": history[key].merge(numbers, how="left", on=key)["series"].to_numpy(), "t": t})
    observed["y"] = pd.to_numeric(history[definition.label.field]).to_numpy(float)
    if definition.censored:
        observed.loc[history[definition.censored].to_numpy(float) > 0, "y"] = np.nan
    _numbers(observed, history, {f"k{i}": known.field for i, known in enumerate(definition.known)})
    _numbers(observed, history, {f"u{i}": name for i, name in enumerate(definition.unknown)})
    observed["written"] = True
    planned = pd.DataFrame({"series": plan[key].merge(numbers, how="left", on=key)["series"].to_numpy()})
    planned["t"] = planned_days.astype(np.int64) // 7
    _numbers(planned, plan, {f"k{i}": known.field for i, known in enumerate(definition.known)})
    planned = planned[planned["series"].notna()].astype({"series": np.int64})
    described = _described(history, observed, keys, definition, codes)
    if definition.absent == "zero":
        observed = _complete(observed, described, definition, int(t.max()))
    return Panel(
        definition=definition,
        keys=keys,
        described=described,
        observed=observed,
        planned=planned,
        last=int(t.max()),
        day=int(weekdays[0]),
    )


def _complete(observed: pd.DataFrame, described: pd.DataFrame, definition: Series, last: int) -> pd.DataFrame:
    """With a row of zero for each week without one, up to the last week of the table or the series' end."""
    ended = described["last"] <= last - definition.ended_after
    ends = np.where(ended, described["last"], last)
    lengths = ends - described["first"].to_numpy() + 1
    series = np.repeat(described["series"].to_numpy(), lengths)
    starts = np.repeat(described["first"].to_numpy() - np.cumsum(lengths) + lengths, lengths)
    grid = pd.DataFrame({"series": series, "t": starts + np.arange(len(series))})
    whole = grid.merge(observed, how="left", on=["series", "t"])
    whole["written"] = whole["written"].notna()
    whole.loc[~whole["written"], "y"] = 0.0
    return whole


def _described(
    history: pd.DataFrame, observed: pd.DataFrame, keys: pd.DataFrame, definition: Series, codes: Codes
) -> pd.DataFrame:
    weeks = observed.groupby("series")["t"]
    described = pd.DataFrame({"series": np.arange(len(keys)), "first": weeks.min(), "last": weeks.max()})
    for i, name in enumerate(definition.key):
        places = {value: place for place, value in enumerate(codes.get(name, ()))}
        described[f"c{i}"] = [places.get(_plain(value), np.nan) for value in keys[name]]
    # The last row of each series tells what describes it.
    order = np.lexsort([observed["t"], observed["series"]])
    newest = order[np.append(np.diff(observed["series"].to_numpy()[order]) > 0, True)]
    for i, name in enumerate(definition.static):
        described[f"s{i}"] = pd.to_numeric(history[name]).to_numpy(float)[newest]
    return described.reset_index(drop=True)


def _numbers(into: pd.DataFrame, table: pd.DataFrame, columns: dict[str, str]) -> None:
    for column, name in columns.items():
        into[column] = pd.to_numeric(table[name]).to_numpy(float)


def _check(table: pd.DataFrame, definition: Series, columns: tuple[str, ...], what: str) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise TableError(f"the {what} has no column {', '.join(missing)}: it needs {', '.join(columns)}")
    if what == "history" and not len(table):
        raise TableError("the history has no rows: there is nothing to learn from")
    for name in definition.key:
        if table[name].isna().any():
            raise TableError(f"{name} is empty in {int(table[name].isna().sum())} rows of the {what}: fill it")
    for name in columns:
        if name not in (*definition.key, definition.time):
            values = pd.to_numeric(table[name], errors="coerce")
            if unread := int((values.isna() & table[name].notna()).sum()):
                raise TableError(f"{name} is not a number in {unread} rows of the {what}")
    weeks = table[list(definition.key)].assign(**{definition.time: _days(table, definition, what)})
    twice = weeks.duplicated()
    if twice.any():
        raise TableError(
            f"the {what} has {int(twice.sum())} rows whose key ({', '.join(definition.key)}) and {definition.time} "
            "another row has already: keep one row for each week"
        )


def _days(table: pd.DataFrame, definition: Series, what: str) -> NDArray[np.datetime64]:
    days = pd.to_datetime(table[definition.time], errors="coerce", format="ISO8601")
    if days.isna().any():
        raise TableError(
            f"{definition.time} is not a date in {int(days.isna().sum())} rows of the {what}: write YYYY-MM-DD"
        )
    result: NDArray[np.datetime64] = days.to_numpy().astype("datetime64[D]")
    return result


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    return value.item() if isinstance(value, np.generic) else value
