"""Sums of forecasts over parts of the key: what is forecast for a group is the sum of its series."""

import pandas as pd

from training.forecasting.definition import Series


def reconcile(forecast: pd.DataFrame, definition: Series) -> pd.DataFrame:
    """The forecast with a row for each level's sum, and column ``level``: the level's fields, joined by ``+``.

    Fields of the key that a level sums over are null; ``level`` of the series themselves has all fields, of the total it
    is ``total``. Point forecasts add up exactly over series. Intervals of sums take the series' errors as partly
    dependent (``Forecaster`` measures how much), so they do not add up.
    """
    raise NotImplementedError
