"""What a use case says of its series, as frozen values. Imports nothing heavy: DAG files read it."""

from typing import Literal

import msgspec


class DefinitionError(ValueError):
    """Raised for a definition that contradicts itself; the message lists what does not fit."""


class Quantity(msgspec.Struct, frozen=True, tag="quantity"):
    """A label that is an amount a week, at least zero."""

    field: str
    unit: str = ""
    """What people count, for the axes of plots and the texts of the gate: ``pieces``, ``kWh``."""


class Known(msgspec.Struct, frozen=True):
    """A number that is planned, and so known for weeks to come (in the table ``plan``)."""

    field: str
    without_plan: Literal["last", "zero"]
    """What is assumed for a week that the plan does not list: the last value that the history has, or zero."""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """The tables of a forecast. Contradictions raise ``DefinitionError``.

    ``history`` has the columns ``columns`` and one row for each key and week that has ended; ``plan`` has
    ``plan_columns`` and one row for each key and week that something is planned for, past weeks included.
    """

    key: tuple[str, ...]
    """The fields that tell one series from another, for example place and product."""
    time: str
    """The field with the first day of a week, a date. All rows have the same day of the week."""
    label: Quantity
    known: tuple[Known, ...] = ()
    """Fields that are planned. The models see them in the week that is forecast, out of ``plan``."""
    unknown: tuple[str, ...] = ()
    """Numbers that are only known afterwards. The models see them up to the last week that has ended."""
    static: tuple[str, ...] = ()
    """Numbers that describe a series and never change. The history has them in every row."""
    censored: str = ""
    """The unknown field, if any, that is above zero in weeks in which less was sold than was wanted. The models do not
    learn from such weeks, and no error is counted in them."""
    absent: Literal["zero", "unknown"] = "zero"
    """What a week without a row within a series means: nothing was sold, or nobody knows."""
    season: int = 52
    """Weeks after which the year repeats itself."""
    horizon: int = 13
    """How many weeks are forecast."""
    gap: int = 1
    """Weeks from the last one that is known to the first one that is forecast: 1 means the very next one."""
    ended_after: int = 26
    """A series without a row in the last weeks of the table, this many, has ended and is not forecast."""
    levels: tuple[tuple[str, ...], ...] = ((),)
    """Sums that are reported beside the series: each a part of the key, ``()`` the total."""

    def __post_init__(self) -> None:
        if faults := self._faults():
            raise DefinitionError(f"the definition of the series contradicts itself: {'; '.join(faults)}")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the history."""
        known = tuple(known.field for known in self.known)
        return (*self.key, self.time, self.label.field, *known, *self.unknown, *self.static)

    @property
    def plan_columns(self) -> tuple[str, ...]:
        """The columns of the plan."""
        return (*self.key, self.time, *(known.field for known in self.known))

    @property
    def steps(self) -> range:
        """Weeks from the last known week to each week that is forecast."""
        return range(self.gap, self.gap + self.horizon)

    def _faults(self) -> list[str]:
        faults = []
        if not self.key:
            faults.append("key is empty: name the fields that tell one series from another")
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if twice:
            faults.append(f"named more than once: {', '.join(twice)}")
        if self.censored and self.censored not in self.unknown:
            faults.append(f"censored is {self.censored!r}: name one of the fields in unknown")
        if self.horizon < 1 or self.gap < 1 or self.season < 1 or self.ended_after < 1:
            faults.append("horizon, gap, season and ended_after are at least 1")
        faults += [
            f"the level ({', '.join(level)}) is not a smaller part of the key ({', '.join(self.key)})"
            for level in self.levels
            if not set(level) < set(self.key)
        ]
        return faults


class ForecastThresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a challenger must reach in the backtest. Errors are shares: 0.2 is 20%."""

    maximum_wape: float = 1.0
    """Sum of absolute errors by sum of actuals."""
    maximum_bias: float = 0.15
    """Sum of errors by sum of actuals, whatever its sign."""
    maximum_rmsse: float = 1.2
    minimum_coverage: float = 0.72
    """Of the interval from the 10% to the 90% quantile."""
    maximum_coverage: float = 0.88
    minimum_value_added: float = 0.0
    """What WAPE must be below that of the seasonal naive forecast, as a share of the latter."""
    maximum_worse: float = 0.02
    """How much worse than the champion a challenger may be in WAPE, as a share, by the high end of its 95% interval
    (bootstrap over series)."""
