"""Spark computes the features that DuckDB does, and keeps the partitions that the embedded store does."""

import os
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import parquet

from tests.support.spark import local_session
from training.forecasting import features
from training.forecasting.series import codes_of, make_panel
from training.inference_log import layout
from training.use_case import load
from use_cases.demand.fields import SERIES
from use_cases.demand.sample import make_shops

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def session():
    yield from local_session()


@pytest.fixture(scope="module")
def tables():
    """The tables of the statements, by name, and the definition with the last week: three shops, with all that happens.

    A shop that training has not seen has no code.
    """
    shops = make_shops(3, 4, 110, 3)
    codes = codes_of(shops.history, SERIES)
    panel = make_panel(shops.history, shops.plan, SERIES, {**codes, "store": codes["store"][:-1]})
    ended = features.training_targets(panel, per_week=1, seed=1, first_age=4).sample(150, random_state=1)
    targets = pd.concat([ended, features.future_targets(panel, [panel.last])], ignore_index=True)
    frames = {
        "observed": panel.observed, "planned": panel.planned, "described": panel.described,
        "weeks": features.calendar(panel), "targets": targets,
    }  # fmt: skip
    return {name: pa.Table.from_pandas(frame, preserve_index=False) for name, frame in frames.items()}, panel.last


def test_features_are_those_of_duckdb(session, tables):
    given, last = tables
    with duckdb.connect() as duck:
        for name, table in given.items():
            duck.register(name, table)
            session.createDataFrame(table).createOrReplaceTempView(name)
        for name, query in features.statements(SERIES, last):
            duck.execute(f"CREATE TABLE {name} AS {query}")
            # Kept, because each view stands in several of the others.
            session.sql(query).localCheckpoint().createOrReplaceTempView(name)
        order = "ORDER BY series, origin, t"
        expected = duck.execute(f"SELECT * FROM features {order}").df()
    found = pd.DataFrame([row.asDict() for row in session.sql(f"SELECT * FROM features {order}").collect()])
    assert list(found.columns) == list(expected.columns)
    assert len(found) == len(expected) == given["targets"].num_rows > 250
    for name in expected:
        ours, theirs = (frame[name].astype(float).to_numpy() for frame in (found, expected))
        assert (np.isnan(ours) == np.isnan(theirs)).all(), name
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=name)
    assert expected.isna().any().any(), "nothing is missing in the example"


@pytest.fixture
def delta(session, tmp_path, monkeypatch):
    """The store of a cluster; Delta needs packages that only a cluster has: the same engine on Parquet."""
    from training.forecasting import store
    from training.inference_log.spark_engine import SparkEngine

    monkeypatch.setattr(store, "open_spark", lambda use_case: SparkEngine(session, use_case))
    monkeypatch.setattr(store, "on_databricks", lambda: True)
    return lambda schema: store.open_store(load("demand"), tmp_path, schema)


@pytest.fixture(scope="module")
def made():
    """A partition of forecasts as the embedded store has written it."""
    from tests.support.batch_example import DAY

    folder = layout.day_folder(Path(os.environ["BATCH_EXAMPLE"]) / "forecasts" / "tables", "scores", DAY)
    return parquet.read_table(folder, partitioning=None)


DAY = date(2026, 11, 23)


def test_partition_comes_back_as_the_embedded_store_keeps_it(delta, made):
    store = delta(made.schema)
    assert made.num_rows > 50
    assert store.read("scores", DAY) is None
    backwards = made.take(pa.array(range(made.num_rows - 1, -1, -1)))
    store.write("scores", DAY, backwards)
    assert store.read("scores", DAY).equals(made)
    assert store.read("scores", DAY + timedelta(weeks=1)) is None
    assert store.read("former", DAY) is None


def test_partition_is_replaced_as_a_whole_and_the_others_stay(delta, made):
    store = delta(made.schema)
    for week in (0, 1):
        store.write("scores", DAY + timedelta(weeks=week), made)
    fewer = made.filter(pc.field("horizon") <= 2)
    store.write("scores", DAY, fewer)
    assert store.read("scores", DAY).equals(fewer)
    assert store.read("scores", DAY + timedelta(weeks=1)).equals(made)


def test_partition_without_rows_is_none(delta, made):
    store = delta(made.schema)
    store.write("scores", DAY, made.slice(0, 0))
    assert store.read("scores", DAY) is None
