"""Every use case that forecasts series holds on every part of the rails. New folders are found by themselves."""

from datetime import date

import pandas as pd
import pytest
from airflow.dag_processing.dagbag import DagBag

from tests.support import names
from tests.support.every_use_case import OWN, ROOT, found_in, names_of
from training.batch.tables import SCORES
from training.data.synthetic import make_plan, make_rows
from training.forecasting.door import CONSEQUENCE, plan_of, read_history
from training.forecasting.forecaster import Forecaster
from training.forecasting.limits import ForecastLimits
from training.forecasting.recipe import FIRST_CHAMPION
from training.forecasting.score import Order, forecast_schema, run
from training.forecasting.store import open_store
from training.registry.content import content_digest
from training.use_case import load

ROWS, SEED = 1000, 5
DAY = date(2026, 11, 23)


@pytest.fixture(scope="module", autouse=True)
def the_tests_own_use_case():
    with found_in(OWN):
        yield


@pytest.fixture(scope="module", params=names_of("quantity"))
def use_case(request):
    return load(request.param)


@pytest.fixture(scope="module")
def files(use_case, tmp_path_factory):
    """Made-up history and plan, as CSV."""
    folder = tmp_path_factory.mktemp("tables")
    make_rows(use_case, ROWS, SEED).to_csv(folder / "history.csv", index=False)
    make_plan(use_case, ROWS, SEED).to_csv(folder / "plan.csv", index=False)
    return folder


def test_history_and_plan_pass_the_door_as_csv_and_as_parquet(use_case, files, tmp_path):
    history = read_history(use_case, str(files / "history.csv"), CONSEQUENCE)
    make_rows(use_case, ROWS, SEED).to_parquet(tmp_path / "history.parquet", index=False)
    assert read_history(use_case, str(tmp_path / "history.parquet"), CONSEQUENCE).digest == history.digest
    plan = plan_of(use_case, history.frame, str(files / "plan.csv"), CONSEQUENCE)
    assert tuple(plan.columns) == use_case.forecast.plan_columns
    assert plan[use_case.forecast.time].max() > history.frame[use_case.forecast.time].max()


def test_first_champion_writes_a_partition_of_every_series_and_week(use_case, files, tmp_path):
    history = read_history(use_case, str(files / "history.csv"), CONSEQUENCE).frame
    plan = plan_of(use_case, history, str(files / "plan.csv"), CONSEQUENCE)
    series = use_case.forecast
    Forecaster.fit(FIRST_CHAMPION, series, history, plan).save(tmp_path / "bundle")
    order = Order(
        source=str(files / "history.csv"), plan=str(files / "plan.csv"), day=DAY, version="1",
        bundle_digest=content_digest(tmp_path / "bundle"),
    )  # fmt: skip
    cycle = run(use_case, tmp_path / "bundle", order, tmp_path / "tables", ForecastLimits())
    schema = forecast_schema(use_case)
    rows = open_store(use_case, tmp_path / "tables", schema).read(SCORES, DAY)
    assert rows.schema == schema
    frame = rows.to_pandas()
    key = [use_case.columns[name] for name in series.key]
    assert (frame.groupby(key).size() == series.horizon).all()
    assert cycle.series == frame.groupby(key).ngroups > 1
    first = pd.Timestamp(frame[use_case.columns[series.time]].min())
    assert first == history[series.time].max() + pd.Timedelta(weeks=series.gap)


def test_dags_parse_without_errors_and_there_are_no_others(use_case):
    bag = DagBag(str(ROOT / "dags"), collect_dags=True)
    assert bag.import_errors == {}
    own = {dag_id for dag_id in bag.dags if dag_id.startswith(f"{use_case.name}_")}
    assert own == names.dags(use_case)
    assert {bag.dags[dag_id].owner for dag_id in own} == {use_case.owner}
