"""Counters of all workers, added up, in Prometheus' format."""

import os
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import MANY_RECORDS, Metrics
from serving.scoring.contract import read_contract
from serving.settings import Release
from serving.stop_switch import StopSwitch
from tests.support.machine import eventually


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


@pytest.fixture
def metrics(flats: Path) -> Metrics:
    return Metrics(read_contract(flats), Release(model_name="flats", model_version="2", revision="abc"), rows=4)


def test_gauge_tells_whether_the_server_is_stopped(flats: Path, tmp_path: Path) -> None:
    file = tmp_path / "stop.json"
    switch = StopSwitch(file)
    metrics = Metrics(
        read_contract(flats), Release(model_name="flats"), rows=1, stopped=lambda: switch.stop is not None
    )
    assert samples(metrics)["scoring_stopped",] == 0
    file.write_text('{"reason": "wrong answers"}')
    assert eventually(lambda: samples(metrics)["scoring_stopped",] == 1, seconds=5)


def test_rows_of_forked_workers_are_added_up(metrics: Metrics) -> None:
    children = []
    for worker in (1, 2):
        row = metrics.reserve_row(worker)
        if (child := os.fork()) == 0:
            metrics.take_row(row)
            for _ in range(100):
                metrics.answered("predict", 200, 0.004)
                metrics.scored(3, 1, [2, 0], [0.5] * 5)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    found = samples(metrics)
    assert found["scoring_requests_total", "predict", "200"] == 200
    assert found["scoring_records_total",] == 600
    assert found["scoring_outliers_total",] == 200
    assert found["scoring_unknown_categories_total", "Stadtteil"] == 400
    assert found["scoring_unknown_categories_total", "heating"] == 0
    assert found["scoring_request_duration_seconds_bucket", "0.003"] == 0
    assert found["scoring_request_duration_seconds_bucket", "0.005"] == 200
    assert found["scoring_request_duration_seconds_count",] == 200
    assert found["scoring_request_duration_seconds_sum",] == pytest.approx(0.8)
    assert found["scoring_build_info", "flats", "abc", "2"] == 1


def test_row_of_an_ended_worker_goes_on_counting_under_the_next(metrics: Metrics) -> None:
    row = metrics.reserve_row(1)
    metrics.take_row(row)
    metrics.answered("predict", 422, 0.1)
    metrics.release_row(1)
    assert metrics.reserve_row(2) == row
    metrics.take_row(row)
    metrics.answered("predict", 422, 0.1)
    assert samples(metrics)["scoring_requests_total", "predict", "422"] == 2


def test_drift_gauges_are_the_latest_large_requests(metrics: Metrics) -> None:
    metrics.scored(1, 0, [0, 0], [0.9] * 5)
    metrics.scored(MANY_RECORDS - 1, 0, [0, 0], [0.8] * 5)
    assert not [name for name in samples(metrics) if name[0] == "scoring_drift_p_value"]
    metrics.take_row(2)
    metrics.scored(MANY_RECORDS, 0, [0, 0], [0.9] * 5)
    metrics.take_row(1)
    metrics.scored(100, 0, [0, 0], [0.1, 0.2, 0.3, 0.4, 0.5])
    metrics.scored(1, 0, [0, 0], [0.7] * 5)
    assert samples(metrics)["scoring_drift_p_value", "rooms"] == pytest.approx(0.4)
