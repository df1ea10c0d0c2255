"""One run of the forecasts: history, plan, a pinned version and a date in, the date's partition out."""

from datetime import date
from pathlib import Path

import msgspec
import pyarrow as pa

from training.batch.score import ANSWER
from training.batch.tables import SCORES
from training.forecasting.cycle import Compared, Cycle, Role, cycle_file
from training.forecasting.door import plan_of, read_history
from training.forecasting.forecaster import Forecaster
from training.forecasting.limits import ForecastLimits
from training.forecasting.reconcile import SERIES, reconcile
from training.forecasting.series import last_week, split
from training.forecasting.store import BESIDE, FORMER, SUMS, Store, open_store
from training.inference_log import layout
from training.use_case import UseCase

CONSEQUENCE = "nothing is forecast"
_AMOUNTS = ("forecast", "q10", "q50", "q90")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be forecast, and with which version."""

    source: str
    plan: str
    """Empty: nothing is planned."""
    day: date
    version: str
    bundle_digest: str
    role: Role = "champion"
    until: str = ""
    """The last week of the history that counts, an ISO date; empty: whatever it has."""
    take_over: bool = False
    """A version that runs beside takes over whatever the comparison says."""


def forecast_schema(use_case: UseCase) -> pa.Schema:
    """A row of ``scores``: the key and the week under their SQL names, the forecast, what made it."""
    series, columns = use_case.forecast, use_case.columns
    kinds = {field.name: field.kind for field in use_case.fields}
    key = [(columns[name], pa.string() if kinds[name] == "category" else pa.int64()) for name in series.key]
    return pa.schema(
        [
            *key,
            (columns[series.time], pa.date32()),
            ("horizon", pa.int64()),
            *((name, pa.float64()) for name in _AMOUNTS),
            ("model", pa.string()),
            ("plan_assumed", pa.bool_()),
            ("short_history", pa.bool_()),
            ("origin", pa.date32()),
            *ANSWER[3:],
        ]
    )


def run(use_case: UseCase, bundle: Path, order: Order, tables: Path, limits: ForecastLimits) -> Cycle:
    """Forecast, and replace the date's partition: of ``scores``, or of ``beside`` by a version that runs beside.

    What stands in ``scores`` afterwards is summed up in ``sums``.
    A version that runs beside is compared with what is in ``scores``, and replaces it where that is within the limits.
    A version whose forecasts of this date were kept in ``former`` has them put back. Killed at any point and repeated,
    it leaves the same rows. Raises ``DataError`` or ``TableError`` for tables that cannot be forecast from.
    """
    store = open_store(use_case, tables, forecast_schema(use_case))
    loaded = Forecaster.load(bundle)
    kept = store.read(FORMER, order.day) if order.role == "champion" and order.until else None
    restored = kept is not None and _made_by(kept) == (order.version, order.bundle_digest)
    rows = kept if kept is not None and restored else forecast(use_case, loaded, order)
    cycle = _cycle(use_case, order, rows, restored=restored)
    if order.role == "champion":
        store.write(SCORES, order.day, rows)
    else:
        store.write(BESIDE, order.day, rows)
        cycle = _beside(use_case, store, order, rows, cycle, limits)
    if use_case.forecast.levels and (order.role == "champion" or cycle.took_over):
        sums = sums_of(use_case, loaded, rows)
        open_store(use_case, tables, sums.schema).write(SUMS, order.day, sums)
        cycle = msgspec.structs.replace(cycle, sums=sums.num_rows)
    layout.write_json(cycle_file(tables, order.day, order.role), msgspec.to_builtins(cycle))
    return cycle


def forecast(use_case: UseCase, forecaster: Forecaster, order: Order) -> pa.Table:
    """The rows of a partition, sorted by key and week."""
    series, columns = use_case.forecast, use_case.columns
    history = read_history(use_case, order.source, CONSEQUENCE).frame
    if order.until:
        history, _ = split(history, series, date.fromisoformat(order.until))
    plan = plan_of(use_case, history, order.plan, CONSEQUENCE)
    frame = forecaster.forecast(history, plan)
    named = frame.rename(columns={name: columns[name] for name in (*series.key, series.time)})
    named[columns[series.time]] = named[columns[series.time]].dt.date
    named["origin"] = last_week(history, series)
    named["model_version"], named["bundle_digest"] = order.version, order.bundle_digest
    schema = forecast_schema(use_case)
    return pa.Table.from_pandas(named[schema.names], schema=schema, preserve_index=False).replace_schema_metadata(None)


def sums_schema(use_case: UseCase) -> pa.Schema:
    """A row of ``sums``: that of ``scores`` behind the name of its level; key fields that are summed over are null."""
    return forecast_schema(use_case).insert(0, pa.field("level", pa.string()))


def sums_of(use_case: UseCase, forecaster: Forecaster, rows: pa.Table) -> pa.Table:
    """The sums of a partition's rows over each level of the definition, by level, key and week."""
    series, columns, schema = use_case.forecast, use_case.columns, sums_schema(use_case)
    names = {columns[name]: name for name in (*series.key, series.time)}
    frame = rows.to_pandas().rename(columns=names)
    whole = reconcile(frame, series, forecaster.manifest.spreads)
    sums = whole[whole["level"] != SERIES].rename(columns={name: column for column, name in names.items()})
    for one in rows.slice(0, 1).to_pylist():  # which is the same in every row
        sums = sums.assign(**{name: one[name] for name in ("origin", "model_version", "bundle_digest")})
    sums = sums.sort_values(["level", *names], ignore_index=True)
    return pa.Table.from_pandas(sums[schema.names], schema=schema, preserve_index=False).replace_schema_metadata(None)


def _made_by(rows: pa.Table) -> tuple[str, str]:
    """Version and digest of a partition, which are the same in every row."""
    first = rows.slice(0, 1).to_pylist()
    return (first[0]["model_version"], first[0]["bundle_digest"]) if first else ("", "")


def _cycle(use_case: UseCase, order: Order, rows: pa.Table, *, restored: bool) -> Cycle:
    series, columns = use_case.forecast, use_case.columns
    frame = rows.to_pandas()
    by_series = frame.groupby([columns[name] for name in series.key])
    weeks = frame[columns[series.time]]
    return Cycle(
        day=order.day.isoformat(),
        role=order.role,
        source=order.source,
        plan=order.plan,
        version=order.version,
        bundle_digest=order.bundle_digest,
        rows=len(frame),
        series=by_series.ngroups,
        origin=str(frame["origin"].max()) if len(frame) else "",
        first_week=str(weeks.min()) if len(frame) else "",
        last_week=str(weeks.max()) if len(frame) else "",
        total=float(frame["forecast"].sum()),
        unit=series.label.unit,
        plan_assumed=int(frame["plan_assumed"].sum()),
        short_history=int(by_series["short_history"].any().sum()) if len(frame) else 0,
        restored=restored,
    )


def _beside(
    use_case: UseCase, store: Store, order: Order, rows: pa.Table, cycle: Cycle, limits: ForecastLimits
) -> Cycle:
    """Compare with the version in production, and replace its partition where that is within the limits."""
    ours = (order.version, order.bundle_digest)
    other = store.read(SCORES, order.day)
    if other is None or _made_by(other) == ours:  # an earlier try has replaced it, or died between its two moves
        other = store.read(FORMER, order.day)
    if other is None:
        raise ValueError(f"there are no forecasts of {order.day} to compare with: run the task score first")
    compared = compare(use_case, rows, other, limits)
    if compared.faults and not order.take_over:
        return msgspec.structs.replace(cycle, compared=compared)
    # In this order: killed in between, the next try finds the old partition in either place.
    store.write(FORMER, order.day, other)
    store.write(SCORES, order.day, rows)
    return msgspec.structs.replace(cycle, compared=compared, took_over=True)


def compare(use_case: UseCase, rows: pa.Table, other: pa.Table, limits: ForecastLimits) -> Compared:
    """A new version's forecasts beside the old ones', over the series and weeks that both have."""
    columns = use_case.columns
    index = [columns[name] for name in (*use_case.forecast.key, use_case.forecast.time)]
    both = rows.to_pandas().merge(other.to_pandas(), on=index, suffixes=("", "_before"))
    missing = other.num_rows - len(both)
    total = float(both["forecast_before"].sum())
    change = float(both["forecast"].sum()) / total - 1 if total else float(bool(both["forecast"].sum()))
    within = (both["forecast"] >= both["q10_before"]) & (both["forecast"] <= both["q90_before"])
    inside = float(within.mean()) if len(both) else 0.0
    faults = []
    if missing:
        faults.append(f"{missing} of {other.num_rows} series and weeks are missing in it")
    if abs(change) > limits.maximum_change:
        faults.append(f"the total changes by {change:+.1%}, and at most {limits.maximum_change:.0%} is allowed")
    if inside < limits.minimum_inside:
        faults.append(f"{inside:.0%} lie within the intervals, and at least {limits.minimum_inside:.0%} are wanted")
    return Compared(version=_made_by(other)[0], rows=len(both), change=change, inside=inside, faults=tuple(faults))
