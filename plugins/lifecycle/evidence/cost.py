"""What a run has used and what that costs: quantities always, amounts where the settings say a price.

Everything that is said about cost comes from here: evidence, the page *Releases*, notes, and the cost of 1,000
predictions. Quantities are what was measured; no price is known to this project (``[prices]`` of the settings file).
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from lifecycle.settings import Prices

Meter = Literal["job", "pod", "container", "build", "log"]
"""What is measured: seconds of a Databricks job, seconds of vCPU that pods or container groups ask for, seconds of a
build, bytes of log lines."""
NO_PRICE = "no price in the settings"
PREDICTIONS = 1000
_HOUR, _MINUTE, _GIGABYTE = 3600.0, 60.0, 1e9


class Measured(msgspec.Struct, frozen=True):
    """What one stage has used, all of its tries together."""

    stage: str
    meter: Meter
    amount: float
    """In the meter's own measure: seconds, or bytes."""


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage has used, and what it costs."""

    stage: str
    quantity: float
    unit: str
    price: float | None = None
    """Of one unit; none where the settings say none."""
    amount: float | None = None
    """What it costs: quantity times price."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has used by stage, up to where it was counted, and what it costs."""

    used: list[Used]
    records: int = 0
    """Records that were scored meanwhile."""
    served: bool = False
    """Whether they were scored for somebody, and not to try a version: only then do 1,000 predictions have a cost."""
    currency: str = ""
    amount: float | None = None
    """All that has a price; none where nothing has."""
    missing: str = ""
    """What could not be counted, in words; empty where everything was."""


class _Unit(msgspec.Struct, frozen=True):
    name: str
    per: float
    """How much of the meter's measure one unit is."""
    price: float | None


def _unit(meter: Meter, prices: Prices) -> _Unit:
    """What a meter counts in. Without the DBU that an hour takes, a job's seconds stay seconds."""
    if meter == "job":
        if prices.dbu_an_hour:
            return _Unit("DBU", _HOUR / prices.dbu_an_hour, prices.dbu)
        return _Unit("s of Databricks jobs", 1.0, None)
    if meter == "build":
        return _Unit("s of builds", 1.0, _a_second(prices.build_minute, _MINUTE))
    if meter == "log":
        return _Unit("GB of logs", _GIGABYTE, prices.log_gb)
    if meter == "container":
        return _Unit("vCPU s of containers", 1.0, _a_second(prices.container_vcpu_hour, _HOUR))
    return _Unit("vCPU s", 1.0, _a_second(prices.vcpu_hour, _HOUR))


def _a_second(price: float | None, seconds: float) -> float | None:
    """The price of one second, where ``seconds`` of them cost ``price``."""
    return None if price is None else price / seconds


def count(
    measured: Iterable[Measured], prices: Prices, *, records: int = 0, served: bool = False, missing: str = ""
) -> Cost:
    """The cost of what was measured; stages that have used nothing are left out."""
    used = [_used(one, prices) for one in measured if one.amount]
    amounts = [one.amount for one in used if one.amount is not None]
    return Cost(
        used=used,
        records=records,
        served=served,
        currency=prices.currency,
        amount=sum(amounts) if amounts else None,
        missing=missing,
    )


def _used(measured: Measured, prices: Prices) -> Used:
    unit = _unit(measured.meter, prices)
    quantity = measured.amount / unit.per
    return Used(
        stage=measured.stage,
        quantity=quantity,
        unit=unit.name,
        price=unit.price,
        amount=None if unit.price is None else quantity * unit.price,
    )


def sentence(cost: Cost) -> str:
    """All of it in a line: what was used, what that costs, and what was left out of it."""
    quantities: dict[str, float] = {}
    for one in cost.used:
        quantities[one.unit] = quantities.get(one.unit, 0.0) + one.quantity
    parts = [f"{_number(quantity)} {unit}" for unit, quantity in quantities.items()]
    parts += [f"{cost.records:,} records scored"] if cost.records else []
    what = ", ".join(parts) or "nothing that is metered"
    each = f"; {per_thousand(cost)}" if per_thousand(cost) else ""
    left_out = f" ({cost.missing})" if cost.missing else ""
    return f"{what}: {_priced(cost)}{each}{left_out}"


def _priced(cost: Cost) -> str:
    unpriced = dict.fromkeys(one.unit for one in cost.used if one.price is None)
    if cost.amount is None:
        return NO_PRICE
    lacking = f", without {', '.join(unpriced)} ({NO_PRICE})" if unpriced else ""
    return f"{_money(cost.amount, cost.currency)}{lacking}"


def per_thousand(cost: Cost) -> str:
    """What 1,000 predictions cost; empty where none was made for anybody, or nothing has a price."""
    if not (cost.served and cost.records) or cost.amount is None:
        return ""
    return f"{_money(cost.amount / cost.records * PREDICTIONS, cost.currency)} per {PREDICTIONS:,} predictions"


def table(cost: Cost) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table for people."""
    heads = ["Stage", "Quantity", "Unit", "Price", "Amount"]
    rows = [
        [
            one.stage,
            _number(one.quantity),
            one.unit,
            "-" if one.price is None else _money(one.price, cost.currency),
            "-" if one.amount is None else _money(one.amount, cost.currency),
        ]
        for one in cost.used
    ]
    return heads, rows


def _number(quantity: float) -> str:
    return f"{quantity:,.0f}" if quantity >= 100 else f"{quantity:.3g}"


def _money(amount: float, currency: str) -> str:
    """Cents where there are some; less than that by its first figures."""
    return f"{amount:,.2f} {currency}" if amount >= 1 or not amount else f"{amount:.3g} {currency}"
