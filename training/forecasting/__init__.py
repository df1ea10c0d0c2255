"""Weekly forecasts of a quantity for many series: features, models, intervals, backtests, comparison.

The package knows no use case. What a series is, and which fields are known in advance, is a value
(``training.forecasting.definition.Series``); everything else follows from tables.
"""
