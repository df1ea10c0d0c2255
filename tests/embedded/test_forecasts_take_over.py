"""Forecasts in an embedded stack: a second version runs beside the first one, takes over, and is rolled back."""

from datetime import timedelta

import pyarrow.parquet as pq
import pytest

from tests.support.desk import TICK, Desk, aliases, read_release_page, unpause
from training.inference_log import layout
from training.registry import tags
from use_cases.demand import USE_CASE as DEMAND
from use_cases.demand.sample import make_shops

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


def partition(stack, table, day=TICK):
    """The bytes of a table's partition of a day, and the versions that have made its rows."""
    (file,) = layout.day_folder(stack.home / "tables" / DEMAND.name, table, day).glob("*.parquet")
    return file.read_bytes(), set(pq.read_table(file, partitioning=None)["model_version"].to_pylist())


def test_forecasts_of_a_second_version_take_over_once_they_were_compared_and_are_rolled_back(stack, airflow, client):
    desk, shops = Desk(stack, airflow, DEMAND), make_shops(3, 6, 156, 3)
    unpause(airflow, DEMAND.score_dag)
    stack.plan(DEMAND.name).parent.mkdir(parents=True, exist_ok=True)
    shops.plan.to_csv(stack.plan(DEMAND.name), index=False)
    weeks = shops.history[DEMAND.forecast.time]
    # What a verdict says of so few shops is not the point here.
    first = desk.train(shops.history[weeks < weeks.max()], force=True)
    assert desk.release(first) == "1"
    assert aliases(client, DEMAND) == {tags.CHAMPION: "1"}
    desk.forecast(TICK)
    assert partition(stack, "scores")[1] == {"1"}

    assert desk.release(desk.train(shops.history, force=True)) == "2"
    assert aliases(client, DEMAND) == {tags.CHAMPION: "1", tags.BESIDE: "2"}
    assert "Beside production Version 2" in read_release_page(stack)[DEMAND.name]
    note = desk.forecast(TICK)
    assert "beside version 1 the total changes by " in note
    assert "of the forecasts lie within its intervals: it takes over" in note
    assert aliases(client, DEMAND) == {tags.CHAMPION: "2", tags.PREVIOUS_CHAMPION: "1"}
    former, _ = partition(stack, "former")
    assert [partition(stack, table)[1] for table in ("scores", "beside", "sums", "former")] == [{"2"}] * 3 + [{"1"}]

    desk.roll_back("orders doubled")
    assert aliases(client, DEMAND) == {tags.CHAMPION: "1", tags.PREVIOUS_CHAMPION: "2"}
    assert partition(stack, "scores") == (former, {"1"})
    assert partition(stack, "sums")[1] == {"1"}
    shown = read_release_page(stack)[DEMAND.name]
    for part in ("Production Version 1", "rolled back", "orders doubled", "No week has been judged yet"):
        assert part in shown, part
    assert "Beside production" not in shown
    assert "Staging" not in shown

    monday = TICK - timedelta(days=7 + TICK.weekday())
    assert desk.backfill(monday)["logical_date"] == f"{monday}T06:00:00Z"
    assert partition(stack, "scores", monday)[1] == {"1"}
    assert partition(stack, "scores") == (former, {"1"}), "of the other date"
