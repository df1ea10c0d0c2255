"""The table of forecasts, as somebody reads it who orders by it."""

from pathlib import Path
from typing import Any

from rich.table import Table

from training.inference_log import layout
from training.use_case import UseCase

_SERIES, _WEEKS = 3, 4


class ForecastTable:
    """The partitions that the forecast DAG has written."""

    def __init__(self, use_case: UseCase, tables: Path) -> None:
        self._use_case = use_case
        self._tables = tables

    def version(self) -> str | None:
        """The model version whose forecasts stand in the newest partition; ``None`` before the first one."""
        rows = self._newest()
        return str(rows[0]["model_version"]) if rows else None

    def shown(self) -> Table:
        """Some lines of the newest partition: the next weeks of the series that the most is forecast of."""
        key, time = [self._use_case.columns[name] for name in self._key], self._use_case.columns[self._time]
        rows = self._newest()
        totals: dict[tuple[Any, ...], float] = {}
        for row in rows:
            series = tuple(row[name] for name in key)
            totals[series] = totals.get(series, 0.0) + row["forecast"]
        largest = sorted(totals, key=lambda series: -totals[series])[:_SERIES]
        table = Table(title=f"{len(rows)} forecasts of {len(totals)} series", title_justify="left", box=None)
        for head in (*key, time, "forecast", "from", "to", "version"):
            table.add_column(head, justify="left" if head in (*key, time) else "right")
        for row in rows:
            series = tuple(row[name] for name in key)
            if series in largest and row["horizon"] <= _WEEKS:
                figures = (f"{row[name]:,.1f}" for name in ("forecast", "q10", "q90"))
                table.add_row(*map(str, series), str(row[time]), *figures, row["model_version"])
        return table

    @property
    def _key(self) -> tuple[str, ...]:
        return self._use_case.forecast.key

    @property
    def _time(self) -> str:
        return self._use_case.forecast.time

    def _newest(self) -> list[dict[str, Any]]:
        # Imported here: these take a while, and most demos show no table.
        from training.batch.tables import SCORES
        from training.forecasting.store import ParquetStore

        days = layout.partitions(self._tables, SCORES, layout.DAY)
        found = ParquetStore(self._tables).read(SCORES, days[-1]) if days else None
        return found.to_pylist() if found else []
