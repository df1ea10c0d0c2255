"""Quantities always, amounts where the settings say a price, and nothing invented."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.evidence import cost
from lifecycle.evidence.cost import Measured
from lifecycle.settings import Prices

MEASURED = [
    Measured("training: tune", "job", 1800.0),
    Measured("deploy_staging", "pod", 36.0),
    Measured("build_image", "build", 90.0),
    Measured("land_logs", "log", 2e8),
    Measured("preview", "job", 0.0),
]
ALL = Prices(currency="EUR", dbu_an_hour=2.0, dbu=0.5, vcpu_hour=0.05, build_minute=0.01, log_gb=3.0)
METERS = st.sampled_from(["job", "pod", "container", "build", "log"])


def test_without_prices_only_quantities_show():
    found = cost.count(MEASURED, Prices(), records=1200)
    assert found.amount is None
    assert all(one.price is one.amount is None for one in found.used)
    assert cost.sentence(found) == (
        "1,800 s of Databricks jobs, 36 vCPU s, 90 s of builds, 0.2 GB of logs, 1,200 records scored: "
        "no price in the settings"
    )
    assert cost.per_thousand(found) == ""


def test_with_prices_every_quantity_has_its_amount():
    found = cost.count(MEASURED, ALL, records=2000, served=True)
    amounts = {one.stage: (one.quantity, one.unit, one.amount) for one in found.used}
    assert amounts["training: tune"] == (1.0, "DBU", 0.5)
    assert amounts["build_image"] == (90.0, "s of builds", pytest.approx(0.015))
    assert amounts["deploy_staging"] == (36.0, "vCPU s", pytest.approx(0.0005))
    assert amounts["land_logs"] == (0.2, "GB of logs", pytest.approx(0.6))
    assert found.amount == pytest.approx(1.1155)
    assert cost.per_thousand(found) == "0.558 EUR per 1,000 predictions"
    assert cost.sentence(found).endswith(": 1.12 EUR; 0.558 EUR per 1,000 predictions")


def test_what_has_no_price_is_named_beside_the_amount():
    said = cost.sentence(cost.count(MEASURED, Prices(currency="EUR", build_minute=0.01)))
    assert said.endswith(": 0.015 EUR, without s of Databricks jobs, vCPU s, GB of logs (no price in the settings)")


def test_records_of_a_trial_are_no_predictions_that_anybody_pays_for():
    assert "per 1,000" not in cost.sentence(cost.count(MEASURED, ALL, records=40))


def test_what_could_not_be_counted_is_said():
    assert cost.sentence(cost.count([], ALL, missing="the last try alone")).endswith("(the last try alone)")


@given(
    st.lists(st.builds(Measured, st.just("stage"), METERS, st.floats(0, 1e12)), max_size=8),
    st.sampled_from([Prices(), ALL, Prices(currency="USD", vcpu_hour=0.0)]),
    st.integers(0, 10**9),
)
def test_amounts_add_up_and_nothing_is_negative_or_lost(measured, prices, records):
    found = cost.count(measured, prices, records=records)
    assert len(found.used) == sum(1 for one in measured if one.amount)
    amounts = [one.amount for one in found.used if one.amount is not None]
    assert found.amount == (sum(amounts) if amounts else None)
    assert all(amount >= 0 and math.isfinite(amount) for amount in amounts)
    assert (found.amount is None) == (cost.NO_PRICE in cost.sentence(found) and not amounts)
    assert msgspec.json.decode(msgspec.json.encode(found), type=cost.Cost) == found


def test_price_without_a_currency_is_refused():
    with pytest.raises(ValueError, match="a price and no currency"):
        Prices(dbu=0.3)
