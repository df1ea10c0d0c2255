"""What the demo trains on, and how long it says that this will take."""

import msgspec
import pytest

from embedded.demo import data as demo_data
from embedded.demo.data import DataFileError
from embedded.environment import Stack
from lifecycle import settings
from lifecycle.settings import NO_PLAN
from training.use_case import load


@pytest.fixture
def stack(tmp_path):
    return Stack.read({"LIFECYCLE_HOME": str(tmp_path / "home")})


@pytest.fixture
def attrition():
    return load("attrition")


def test_own_file_is_put_where_the_settings_look_for_it_and_follows_a_change(stack, attrition):
    path = demo_data.own(stack, attrition)
    original = attrition.folder / attrition.data
    assert path == stack.data("attrition")
    assert path.read_bytes() == original.read_bytes()
    path.write_text("something else")
    assert demo_data.own(stack, attrition).read_bytes() == original.read_bytes()


def test_use_case_without_a_file_has_none(stack, attrition):
    assert demo_data.own(stack, msgspec.structs.replace(attrition, data="")) is None


def test_file_that_the_definition_promises_and_that_is_not_there_is_named(stack, attrition):
    promised = msgspec.structs.replace(attrition, data="data/gone.csv")
    with pytest.raises(DataFileError, match=r"data is .*data/gone\.csv, but there is no such file: put it there, or"):
        demo_data.own(stack, promised)


def test_rows_are_counted_whatever_the_file_type(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"a": range(1000)})
    frame.to_csv(tmp_path / "table.csv", index=False)
    frame.to_parquet(tmp_path / "table.parquet")
    assert [demo_data.rows_of(tmp_path / f"table.{kind}") for kind in ("csv", "parquet")] == [1000, 1000]


def test_rows_of_a_file_that_cannot_be_read_are_left_to_the_job(tmp_path):
    path = tmp_path / "table.xlsx"
    path.write_bytes(b"PK")
    assert demo_data.rows_of(path) == 0


@pytest.fixture
def demand():
    return load("demand")


def test_plan_is_put_where_the_settings_name_it(stack, demand, tmp_path, monkeypatch):
    """What a file starts is given no plan, so it reads that one."""
    rows = "store,item,week,price,deal,advertised\n1,10,2026-11-16,2.5,0,0\n"
    (tmp_path / "mine.csv").write_text(rows)
    place = demo_data.lay_plan(stack, demand, str(tmp_path / "mine.csv"))
    assert demo_data.lay_plan(stack, demand, str(place)).read_text() == rows
    monkeypatch.setenv("LIFECYCLE_HOME", str(stack.home))
    settings.load.cache_clear()
    try:
        assert settings.load().of(demand.name).planned(None) == str(place)
    finally:
        settings.load.cache_clear()


@pytest.mark.parametrize("plan", [NO_PLAN, "/in/plan.parquet"])
def test_plan_that_cannot_be_put_there_is_told(stack, demand, plan):
    with pytest.raises(DataFileError, match=r"goes by the plan that the settings name, .*demand-plan.csv: give PLAN="):
        demo_data.lay_plan(stack, demand, plan)
