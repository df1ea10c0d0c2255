"""When forecasts in production are wrong enough for people to hear of it. Light, so that the settings can hold it."""

import msgspec


class ForecastLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a new version may take over from the one that it runs beside, and when a week is a poor one."""

    maximum_change: float = 0.3
    """By how much the sum of all forecasts may differ from that of the version in production, as a share."""
    minimum_inside: float = 0.5
    """Share of the new version's forecasts that must lie within the intervals of the version in production."""
    maximum_wape: float = 0.6
    """A week with a larger WAPE is a poor one."""
    maximum_bias: float = 0.25
    """So is one with a larger bias, whatever its sign."""
    minimum_coverage: float = 0.6
    """So is one in which the 80% interval holds a smaller share of actuals."""
    maximum_signal: float = 3.0
    """So is one with a larger tracking signal, whatever its sign: the errors of several weeks add up. In one year of
    twenty-five, chance alone confirms this."""
    weeks: int = 3
    """Poor weeks in a row, in the same way, that confirm it and start a training."""
    significance: float = 0.01
    """Largest Benjamini-Hochberg adjusted p-value at which the inputs of recent weeks differ from the trained ones."""
    minimum_effect: float = 0.2
    """Smallest effect (KS distance) of such a difference."""
    pause_weeks: int = 4
    """After a retraining was started, nothing starts another for so long: it is on its way to the gate."""
