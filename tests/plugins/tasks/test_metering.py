"""Every try of a run is counted, and what cannot be asked for is said."""

from types import SimpleNamespace

import pytest
import requests
from airflow.models.connection import Connection

from lifecycle import settings
from lifecycle.evidence import cost
from lifecycle.operators.build_image import BuildImageOperator
from lifecycle.operators.release_step import ScoringStepOperator
from lifecycle.tasks import metering
from tests.support.airflow import USE_CASE, make_settings
from training.registry import tags

PLACE = "http://airflow:8080/api/v2/dags/attrition_release/dagRuns/run%201/taskInstances"


def tried(task_id, seconds, operator="ScoringStepOperator", number=1):
    return {"task_id": task_id, "operator": operator, "duration": seconds, "try_number": number, "map_index": -1}


@pytest.fixture
def airflow(connections, monkeypatch):
    """What Airflow's API answers, by address."""
    connections["airflow_api"] = Connection(
        conn_id="airflow_api", conn_type="http", host="airflow", port=8080, password="t"
    )
    known = {}

    def get(session, url, timeout):
        if url not in known:
            raise requests.ConnectionError(url)
        return SimpleNamespace(json=lambda: known[url], raise_for_status=lambda: None)

    monkeypatch.setattr(requests.Session, "get", get)
    monkeypatch.setattr(settings, "load", make_settings)
    return known


def context(**xcoms):
    crumbs = [tried("build_image", 30.0, "BuildImageOperator")]
    instance = SimpleNamespace(
        xcom_pull=lambda task_ids, key="return_value": xcoms.get(task_ids),
        get_task_breadcrumbs=lambda **_: [
            {name: one[name] for name in ("task_id", "operator", "duration")} for one in crumbs
        ],
    )
    return {"ti": instance, "dag_run": SimpleNamespace(dag_id="attrition_release", run_id="run 1")}


def quantities(found):
    """What each stage has used, in the unit of the meter that is paid for it."""
    return {one.stage: f"{one.quantity:g} {one.unit}" for one in found.used}


def test_release_counts_every_try_and_the_training_of_its_version(airflow, connections):
    connections["scoring_staging"] = Connection(conn_id="scoring_staging", conn_type="kubernetes")
    last = [
        tried("build_image", 30.0, "BuildImageOperator", 2),
        tried("verify_staging", 20.0),
        tried("try_image", 50.0),
        tried("gather_evidence", None, "_PythonDecoratedOperator"),
        tried("preview_impact", 300.0, "PreviewRunOperator"),
    ]
    airflow[f"{PLACE}?limit=100&offset=0"] = {"task_instances": last[:3], "total_entries": 5}
    airflow[f"{PLACE}?limit=100&offset=3"] = {"task_instances": last[3:], "total_entries": 5}
    both = [tried("build_image", 90.0, "BuildImageOperator"), last[0]]
    airflow[f"{PLACE}/build_image/-1/tries"] = {"task_instances": both}
    found = metering.of_release(
        context(preview_impact={"preview": 12.5}),
        {tags.JOB_SECONDS: '{"prepare": 4.0, "tune": 61.5}'},
        [{"passed": True, "requests": 40}, {}],
        None,
    )
    assert quantities(found) == {
        "training: prepare": "4 s of Databricks jobs",
        "training: tune": "61.5 s of Databricks jobs",
        "preview_impact: preview": "12.5 s of Databricks jobs",
        "build_image": "120 s of builds",  # of both tries
        "verify_staging": "2 vCPU s",  # 20 s of a pod that asks for a tenth of a vCPU
        "try_image": "100 vCPU s of containers",
    }
    assert (found.records, found.missing) == (40, "")


def test_without_airflows_api_the_last_tries_count_and_the_rest_is_said_to_be_missing(airflow):
    found = metering.of_release(context(), {}, [], None)
    assert quantities(found) == {"build_image": "30 s of builds"}
    assert "last try alone" in cost.sentence(found)


@pytest.mark.parametrize(("kind", "pods"), [("kubernetes", f"{2 * 86_400 * 2 * 0.1:g} vCPU s"), ("gunicorn", "")])
def test_night_counts_jobs_log_bytes_and_what_its_servers_ask_for(airflow, connections, kind, pods):
    connections["scoring_production"] = Connection(conn_id="scoring_production", conn_type=kind)
    now = context(curate_and_judge={"curate": 9.0}, land_logs={"nights": [], "lines": 3, "bytes": 5_000_000})
    found = metering.of_nights(now, USE_CASE, nights=2, records=800)
    jobs = {"curate_and_judge: curate": "9 s of Databricks jobs"}
    expected = {**jobs, "land_logs": "0.005 GB of logs", "scoring servers": pods}
    assert quantities(found) == {stage: amount for stage, amount in expected.items() if amount}
    assert found.records == 800


def test_batch_counts_the_jobs_that_it_started_and_the_records_that_somebody_gets(airflow):
    now = context(score={"score": 36.0}, score_beside={"score": 4.0}, other={"job": 9.0})
    found = metering.of_batch(now, 2000)
    assert quantities(found) == {"score: score": "36 s of Databricks jobs"}
    assert (found.records, found.served) == (2000, True)
    both = metering.of_batch(now, 2000, ("score", "score_beside"))
    assert quantities(both).keys() == {"score: score", "score_beside: score"}


def test_operators_are_known_by_the_names_that_airflow_records():
    assert (BuildImageOperator.__name__, ScoringStepOperator.__name__) == (metering.BUILDS, metering.STEPS)
