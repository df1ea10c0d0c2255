"""New files in a real Airflow: through the folder's watcher, and through the bus with its triggerer killed."""

import json
import shutil
from pathlib import Path

import pytest

from embedded.environment import ROOT
from tests.support import real_airflow
from tests.support.events import blob_created
from tests.support.machine import eventually, free_port

ARRIVALS, TRAIN = "attrition_arrivals", "attrition_train"
NEVER = "0 0 1 1 *"
_LONG = 200
"""Seconds: a busy machine takes long from a file to its run."""


@pytest.fixture
def place(tmp_path):
    """A home, and DAG files: the arrivals, and the training, which stays paused so that its runs only wait."""
    dags = tmp_path / "dags"
    dags.mkdir()
    for name in ("arrivals.py", "train.py"):
        shutil.copy(ROOT / "dags" / name, dags)
    return tmp_path


def settings_file(place, listen, **values):
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    path = place / "settings.toml"
    top = 'environment = "test"\nairflow_url = "http://airflow"\nmlflow_url = "http://mlflow"\n'
    events = f'[events]\nlisten = {json.dumps(listen)}\nsweep = "{NEVER}"\n'
    path.write_text("\n".join([top, events, "[every_use_case]", *lines]))
    return {"LIFECYCLE_SETTINGS": str(path), "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5"}


def started(airflow):
    """What the training's runs were given, oldest first."""
    found = airflow.client.listed(f"/dags/{TRAIN}/dagRuns", "dag_runs", order_by="id")
    return [Path(run["conf"]["data"]).name for run in found]


def states(airflow):
    """How the runs of the arrivals DAG have ended, or not yet."""
    return {run["state"] for run in airflow.client.listed(f"/dags/{ARRIVALS}/dagRuns", "dag_runs", order_by="id")}


@pytest.mark.stack
@pytest.mark.timeout(900)
def test_dropped_file_starts_a_run_and_so_does_a_sweep_by_hand(place):
    bronze = place / "bronze"
    bronze.mkdir()
    values = {"bronze": str(bronze), "tables": f"{place}/tables", "start_on_data": ["train"]}
    with real_airflow.running(place / "home", place / "dags", settings_file(place, True, **values)) as airflow:
        real_airflow.unpause(airflow.client, ARRIVALS)
        # What people name files must not be read as a template.
        (bronze / "{{ run_id }}.csv").write_text("a\n")
        assert eventually(lambda: started(airflow) == ["{{ run_id }}.csv"], _LONG)
        airflow.client.trigger(ARRIVALS, "by-hand", {})
        assert eventually(lambda: airflow.client.run(ARRIVALS, "by-hand")["state"] == "success", _LONG)
        assert started(airflow) == ["{{ run_id }}.csv"], "the sweep knows what an event told of"
        assert airflow.client.run(ARRIVALS, "by-hand")["note"] == "New files, by looking through the folders: none"


@pytest.mark.bus
@pytest.mark.timeout(900)
def test_triggerer_killed_between_storing_and_acknowledging_loses_and_repeats_nothing(place):
    """Redelivered, stored twice in Airflow, and started once."""
    from tests.plugins.events.test_service_bus import Queue
    from tests.support.service_bus import ServiceBus

    bronze = place / "bronze"  # empty: the bus alone tells of files
    values = {"bronze": str(bronze), "tables": f"{place}/tables", "start_on_data": ["train"]}
    with ServiceBus(free_port(), lock_seconds=5.0) as bus:
        queue = Queue(bus)
        environment = settings_file(place, True, **values) | {"AIRFLOW_CONN_EVENTS": json.dumps(queue.connection)}
        with real_airflow.running(place / "home", place / "dags", environment) as airflow:
            real_airflow.unpause(airflow.client, ARRIVALS)
            sent = []

            def send():
                sent.append(f"{len(sent)}.csv")
                event = blob_created(sent[-1], event=sent[-1])
                queue.send(json.dumps({**event, "subject": f"{bronze}/{sent[-1]}"}))

            def stored():
                events = airflow.client.asset_events()
                return [event["extra"]["payload"]["name"] for event in events]

            send()
            assert eventually(lambda: started(airflow) == sent and queue.left() == 0, _LONG)
            bus.deaf.set()
            send()
            assert eventually(lambda: sent[-1] in stored(), _LONG)
            airflow.kill_triggerer()
            bus.deaf.clear()
            assert eventually(lambda: queue.left() == 0, _LONG)
            assert stored().count(sent[-1]) > 1, "it came again and was stored again"
            assert eventually(lambda: set(started(airflow)) == set(sent), _LONG)
            assert eventually(lambda: states(airflow) == {"success"}, _LONG)
            assert sorted(started(airflow)) == sorted(sent)
