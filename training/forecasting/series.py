"""The tables of a forecast: reading, checking, the weekly calendar, and the codes of the series."""

from datetime import date

import pandas as pd

from training.forecasting.definition import Series


class TableError(ValueError):
    """Raised for tables that cannot be forecast from: what is wrong, in which column, and what to do."""


def week_number(day: date) -> int:
    """Weeks since 1970-01-01's, by the calendar: consecutive weeks have consecutive numbers."""
    raise NotImplementedError


def check_history(history: pd.DataFrame, definition: Series) -> None:
    """Raise ``TableError`` unless columns, types, days of the week, amounts and keys are as the definition says."""
    raise NotImplementedError


def split(history: pd.DataFrame, definition: Series, last_week: date) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows up to a week, and those after it."""
    raise NotImplementedError
