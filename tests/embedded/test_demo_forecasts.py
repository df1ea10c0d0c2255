"""The lines of the table of forecasts that the demo shows."""

import io
from datetime import date, timedelta

import pyarrow as pa
import pytest
from rich.console import Console

from embedded.demo.forecasts import ForecastTable
from training.batch.tables import SCORES
from training.forecasting.store import ParquetStore
from training.use_case import load

DAY = date(2026, 11, 23)
USE_CASE = load("demand")


def rows(version, weeks=13):
    """A row for each week and item of one store; the later an item's letter, the more is forecast of it."""
    return pa.Table.from_pylist(
        [
            {
                "store": "S1", "item": item, "week": DAY + timedelta(weeks=step - 1), "horizon": step,
                "forecast": 1000.0 * number + step, "q10": 10.0, "q90": 20.0, "model_version": version,
            }
            for number, item in enumerate("ABCDE")
            for step in range(1, weeks + 1)
        ]
    )  # fmt: skip


@pytest.fixture
def table(tmp_path):
    return ForecastTable(USE_CASE, tmp_path)


def shown(table):
    console = Console(file=io.StringIO(), width=120)
    console.print(table.shown())
    title, head, *lines = console.file.getvalue().splitlines()
    return title.strip(), head.split(), [line.split() for line in lines if line.strip()]


def test_before_the_first_forecasts_there_is_no_version_and_no_line(table):
    assert table.version() is None
    assert shown(table)[0] == "0 forecasts of 0 series"


def test_newest_partition_counts_whatever_was_written_last(table, tmp_path):
    store = ParquetStore(tmp_path)
    for day, version in ((DAY, "2"), (DAY - timedelta(weeks=1), "1")):
        store.write(SCORES, day, rows(version))
    assert table.version() == "2"


def test_next_weeks_of_the_largest_series_are_shown_with_interval_and_version(table, tmp_path):
    ParquetStore(tmp_path).write(SCORES, DAY, rows("7"))
    title, head, lines = shown(table)
    assert title == "65 forecasts of 5 series"
    assert head == ["store", "item", "week", "forecast", "from", "to", "version"]
    assert [line[1] for line in lines] == ["C"] * 4 + ["D"] * 4 + ["E"] * 4
    assert lines[-1] == ["S1", "E", "2026-12-14", "4,004.0", "10.0", "20.0", "7"]
