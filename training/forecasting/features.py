"""Lags, calendar and planned values as the models see them, in SQL.

The statements are written with what DuckDB and Spark SQL share: joins, window functions and CASE. Numbers with a
fraction have an exponent, without which Spark takes them for decimals, and rounds what is computed with them. They read
the tables of ``Panel`` under the names ``observed, planned, described``, a calendar ``weeks`` and the wanted rows
``targets``.
A row of ``targets`` is a series, a week ``t`` and the last week ``origin`` that is known then: nothing that
came after the origin is read but what is planned.
"""

from collections.abc import Sequence

import duckdb
import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.forecasting.definition import Series
from training.forecasting.series import Panel

LAGS = 9
MEANS = (4, 13, 26, 52)
"""Lengths of the windows, in weeks, that are averaged over."""
NEAREST = 104
"""Weeks back in which weeks like the target's are looked for."""
MISSING = np.float32(-1e30)
"""Stands for what is missing: below all values, so that trees need no second rule."""


class Rows(msgspec.Struct, frozen=True):
    """Rows for the models."""

    frame: pd.DataFrame
    """``series, origin, t, step``; ``y``, null where it is unknown; ``same_week, level``, logarithms, null where there
    are none; ``zeros``, their share of the last half year; ``assumed``; ``age``, weeks since the first."""
    x: NDArray[np.float32]
    """The features, ``[rows, features]``, in the order of ``names``."""
    names: tuple[str, ...]


def calendar(panel: Panel) -> pd.DataFrame:
    """``t, year_week, month, month_week`` of every week from the history's first one to the end of the horizon."""
    t = np.arange(panel.described["first"].min(), panel.last + panel.definition.steps[-1] + 1)
    days = pd.DatetimeIndex(panel.date_of(t))
    return pd.DataFrame(
        {"t": t, "year_week": (days.day_of_year - 1) // 7, "month": days.month, "month_week": (days.day - 1) // 7}
    )


def statements(definition: Series, last: int) -> list[tuple[str, str]]:
    """Name and query of each view, in order; the last one, ``features``, has a row for each target."""
    known = range(len(definition.known))
    keys = range(len(definition.key))
    return [
        ("grid", _grid(definition, last)),
        ("filled", _filled(definition)),
        ("around", _around(known, keys)),
        ("states", _states(definition, known)),
        ("group_states", _group_states(keys)),
        ("alike", _alike(definition)),
        ("group_alike", _group_alike(definition, keys)),
        ("features", _features(definition, known, keys)),
    ]


def make_rows(panel: Panel, targets: pd.DataFrame) -> Rows:
    """The features of ``targets`` (columns ``series, origin, t``), sorted by them."""
    definition = panel.definition
    with duckdb.connect(config={"threads": 1}) as connection:
        for name, frame in (
            ("observed", panel.observed),
            ("planned", panel.planned),
            ("described", panel.described),
            ("weeks", calendar(panel)),
            ("targets", targets),
        ):
            connection.register(f"{name}_rows", frame)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM {name}_rows")
        for name, query in statements(definition, panel.last):
            connection.execute(f"CREATE TABLE {name} AS {query}")
        frame = connection.execute("SELECT * FROM features ORDER BY series, origin, t").df()
    own = ("series", "origin", "t", "y", "assumed")
    names = tuple(name for name in frame.columns if name not in own)
    x = frame[list(names)].to_numpy(np.float32, na_value=np.nan)
    return Rows(frame[[*own, "step", "same_week", "level", "zeros", "age"]], np.where(np.isnan(x), MISSING, x), names)


def training_targets(panel: Panel, *, per_week: int, seed: int, first_age: int) -> pd.DataFrame:
    """Weeks whose quantity is known, each from ``per_week`` origins of different distance (of all steps, at random)."""
    definition = panel.definition
    steps = np.array(definition.steps)
    weeks = panel.observed.loc[panel.observed["y"].notna(), ["series", "t"]].to_numpy(np.int64)
    weeks = weeks[np.lexsort([weeks[:, 1], weeks[:, 0]])]
    rng = np.random.default_rng(seed)
    order = rng.random((len(weeks), len(steps))).argsort(axis=1)[:, : min(per_week, len(steps))]
    found = pd.DataFrame(
        {
            "series": np.repeat(weeks[:, 0], order.shape[1]),
            "origin": (weeks[:, [1]] - steps[order]).ravel(),
            "t": np.repeat(weeks[:, 1], order.shape[1]),
        }
    )
    first = found["series"].map(panel.described.set_index("series")["first"])
    return found[found["origin"] - first >= first_age].reset_index(drop=True)


def future_targets(panel: Panel, origins: Sequence[int]) -> pd.DataFrame:
    """Every week of the horizon from each origin, for the series that have begun by then and not ended."""
    active = panel.active()
    parts = [
        pd.DataFrame(
            {"series": np.repeat(begun, len(steps)), "origin": origin, "t": np.tile(origin + steps, len(begun))}
        )
        for steps in [np.array(panel.definition.steps)]
        for origin in origins
        for begun in [active["series"][active["first"] <= origin].to_numpy(np.int64)]
    ]
    return pd.concat(parts, ignore_index=True)


# --- the statements ---


def _grid(definition: Series, last: int) -> str:
    """Every week of every series, from its first one to the end of the horizon, with what both tables say of it."""
    names = [f"k{i}" for i in range(len(definition.known))]
    # What was planned is what a forecast of that week could know; where no plan is kept, what came stands for it.
    plan = "".join(f", COALESCE(p.{name}, o.{name}) AS {name}" for name in names)
    unknown = "".join(f", o.u{i}" for i in range(len(definition.unknown)))
    assumed = " OR ".join(f"p.{name} IS NULL" for name in names) or "FALSE"
    return f"""
        SELECT d.series, w.t, {_codes("d", definition)}{plan}{unknown}, o.y, (w.t > {last} AND ({assumed})) AS assumed
        FROM described d
        JOIN weeks w ON w.t >= d.first
        LEFT JOIN observed o ON o.series = d.series AND o.t = w.t
        LEFT JOIN planned p ON p.series = d.series AND p.t = w.t"""


def _filled(definition: Series) -> str:
    """The grid with logarithms, and with known fields as they are assumed where nobody planned anything."""
    last = [i for i, known in enumerate(definition.known) if known.without_plan == "last"]
    counted = "".join(f", COUNT(k{i}) OVER (PARTITION BY series ORDER BY t) AS n{i}" for i in last)
    filled = "".join(
        f", MAX(k{i}) OVER (PARTITION BY series, n{i}) AS k{i}" if i in last else f", COALESCE(k{i}, 0) AS k{i}"
        for i in range(len(definition.known))
    )
    unknown = "".join(f", u{i}" for i in range(len(definition.unknown)))
    return f"""
        SELECT series, t, y, LN(1 + y) AS ly, assumed{filled}{unknown}, {_codes("g", definition)}
        FROM (SELECT *{counted} FROM grid) g"""


def _around(known: range, keys: range) -> str:
    """Known fields of a week beside those of the other series of the same group, week by week."""
    means = "".join(f", AVG(k{i}) OVER (PARTITION BY c{j}, t) AS k{i}_c{j}" for i in known for j in keys)
    before = "".join(
        f", LAG(k{i}, {weeks}) OVER (PARTITION BY series ORDER BY t) AS k{i}_before{name}"
        for i in known
        for weeks, name in ((1, ""), (2, "2"))
    )
    return f"SELECT *{means}{before} FROM filled"


def _states(definition: Series, known: range) -> str:
    """What is known of a series at the end of a week: lags, means over windows, spread, zeros, what is planned less."""
    lags = "".join(f", LAG(ly, {lag}) OVER w AS lag{lag}" for lag in range(1, LAGS))
    means = "".join(f", AVG(ly) OVER ({_last(length)}) AS mean{length}" for length in MEANS)
    prices = "".join(f", k{i} AS k{i}_now, AVG(k{i}) OVER ({_last(26)}) AS k{i}_mean" for i in known)
    unknown = "".join(f", u{i}, AVG(u{i}) OVER ({_last(4)}) AS u{i}_mean" for i in range(len(definition.unknown)))
    return f"""
        SELECT series, t, ly AS lag0{lags}{means}, AVG(ly) OVER ({_last(8)}) AS level,
            STDDEV_POP(ly) OVER ({_last(26)}) AS spread,
            AVG(CASE WHEN y > 0 THEN 0e0 WHEN y = 0 THEN 1e0 END) OVER ({_last(26)}) AS zeros{prices}{unknown}
        FROM filled
        WINDOW w AS (PARTITION BY series ORDER BY t)"""


def _group_states(keys: range) -> str:
    """Mean logarithm of all series that share a field of the key: the last week, and the mean of four."""
    return " UNION ALL ".join(
        f"""SELECT {j} AS field, c{j} AS code, t, mean AS lag0,
            AVG(mean) OVER (PARTITION BY c{j} ORDER BY t ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS mean4
        FROM (SELECT c{j}, t, AVG(ly) AS mean FROM filled GROUP BY c{j}, t) g{j}"""
        for j in keys
    )


def _distance(definition: Series, one: str, other: str) -> str:
    """How far two weeks are apart in what was planned: 5% of a price count one, a flag that differs counts three."""
    parts = [
        f"20 * ABS(LN((1e-6 + ABS({one}.k{i})) / (1e-6 + ABS({other}.k{i}))))"
        if known.without_plan == "last"
        else f"3 * ABS({one}.k{i} - {other}.k{i})"
        for i, known in enumerate(definition.known)
    ]
    return f"LEAST({' + '.join(parts)}, 500)" if parts else "0"  # farther than that, EXP would be zero


def _alike(definition: Series) -> str:
    """Means of a series' weeks up to the origin, those most that were planned like the target and are not long ago.

    ``alike`` looks back for half a year or so, ``alike_late`` for six weeks.
    """
    distance = _distance(definition, "a", "b")
    slow, fast = (f"EXP(-({distance} + (g.origin - b.t) / {weeks}e0))" for weeks in (26, 6))
    return f"""
        SELECT g.series, g.origin, g.t, SUM({slow} * b.ly) / SUM({slow}) AS alike, LN(SUM({slow})) AS alike_weight,
            SUM({fast} * b.ly) / SUM({fast}) AS alike_late
        FROM targets g
        JOIN filled a ON a.series = g.series AND a.t = g.t
        JOIN filled b ON b.series = g.series AND b.t <= g.origin AND b.t > g.origin - {NEAREST} AND b.ly IS NOT NULL
        GROUP BY g.series, g.origin, g.t"""


def _group_alike(definition: Series, keys: range) -> str:
    """The same of the mean of all series that share a field of the key, by their mean plan."""
    means = "".join(f", AVG(k{i}) AS k{i}" for i in range(len(definition.known)))
    weight = f"EXP(-({_distance(definition, 'a', 'b')} + (g.origin - b.t) / 26e0))"
    parts = []
    for j in keys:
        weeks = f"(SELECT c{j} AS code, t, AVG(ly) AS ly{means} FROM filled GROUP BY c{j}, t)"
        wanted = (
            f"(SELECT DISTINCT d.c{j} AS code, r.origin, r.t FROM targets r JOIN described d ON d.series = r.series)"
        )
        parts.append(f"""
            SELECT {j} AS field, g.code, g.origin, g.t, SUM({weight} * b.ly) / SUM({weight}) AS alike
            FROM {wanted} g
            JOIN {weeks} a ON a.code = g.code AND a.t = g.t
            JOIN {weeks} b ON b.code = g.code AND b.t <= g.origin AND b.t > g.origin - {NEAREST} AND b.ly IS NOT NULL
            GROUP BY g.code, g.origin, g.t""")
    return " UNION ALL ".join(parts)


def _features(definition: Series, known: range, keys: range) -> str:
    states = [f"lag{lag}" for lag in range(LAGS)] + [f"mean{length}" for length in MEANS]
    states += ["level", "spread", "zeros"] + [
        f"u{i}{of}" for i in range(len(definition.unknown)) for of in ("", "_mean")
    ]
    columns = [f"s.{name}" for name in states]
    for i, field in enumerate(definition.known):
        columns += [f"a.k{i}", f"a.k{i}_before", f"a.k{i}_before2", f"s.k{i}_now"]
        if field.without_plan == "last":  # a level, which says most beside what is usual
            columns += [f"a.k{i} / NULLIF(s.k{i}_mean, 0) AS k{i}_ratio"]
            columns += [f"a.k{i} / NULLIF(a.k{i}_c{j}, 0) AS k{i}_c{j}" for j in keys]
        else:
            columns += [f"s.k{i}_mean", *(f"a.k{i}_c{j}" for j in keys)]
    columns += [f"g{j}.lag0 AS c{j}_lag0, g{j}.mean4 AS c{j}_mean4, l{j}.alike AS c{j}_alike" for j in keys]
    columns += [f"d.s{i}" for i in range(len(definition.static))]
    groups = "".join(
        f""" LEFT JOIN group_states g{j} ON g{j}.field = {j} AND g{j}.code = d.c{j} AND g{j}.t = r.origin
        LEFT JOIN group_alike l{j} ON l{j}.field = {j} AND l{j}.code = d.c{j} AND l{j}.origin = r.origin
            AND l{j}.t = r.t"""
        for j in keys
    )
    return f"""
        SELECT r.series, r.origin, r.t, a.y, a.assumed, r.t - r.origin AS step, r.origin - d.first AS age,
            c.year_week, c.month, c.month_week, {_codes("d", definition)},
            l.alike, l.alike_weight, l.alike_late, y.ly AS same_week, n.ly AS week_after, {", ".join(columns)}
        FROM targets r
        JOIN described d ON d.series = r.series
        JOIN weeks c ON c.t = r.t
        JOIN around a ON a.series = r.series AND a.t = r.t
        JOIN states s ON s.series = r.series AND s.t = r.origin
        LEFT JOIN alike l ON l.series = r.series AND l.origin = r.origin AND l.t = r.t
        LEFT JOIN filled y ON y.series = r.series AND y.t = r.t - {definition.season} AND y.t <= r.origin
        LEFT JOIN filled n ON n.series = r.series AND n.t = r.t - {definition.season - 1} AND n.t <= r.origin{groups}"""


def _codes(table: str, definition: Series) -> str:
    return ", ".join(f"{table}.c{j}" for j in range(len(definition.key)))


def _last(weeks: int) -> str:
    return f"PARTITION BY series ORDER BY t ROWS BETWEEN {weeks - 1} PRECEDING AND CURRENT ROW"
