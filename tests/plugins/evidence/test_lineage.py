"""OpenLineage: tasks run by Airflow leave events that lead from the data to the deployment."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.image_names import digest

pytestmark = pytest.mark.stack
ROOT = Path(__file__).parents[3]

# The operators as they are, but for what they would do outside of Airflow. The registry is real.
DAG = """
import pendulum
from airflow.sdk import Param, dag

from lifecycle.hooks import registry
from lifecycle import settings
from lifecycle.image_reference import ImageReference
from lifecycle.operators.build_image import BuildImageOperator
from lifecycle.operators.release_step import ScoringStepOperator
from lifecycle.operators.training_run import TrainingRunOperator
from training.registry import tags

IMAGE = {"image": "registry.example.com/hr/scoring@sha256:" + "aa" * 32, "version": "1"}


class Train(TrainingRunOperator):
    def execute(self, context):
        client, name = registry.client(), registry.model_name(self.use_case)
        experiment = client.create_experiment(settings.load().of(self.use_case).experiment)
        run = client.create_run(experiment, tags={tags.RUN_KEY: self.run_key(context["ti"])})
        client.create_registered_model(name)
        version = client.create_model_version(name, run.info.artifact_uri, run.info.run_id)
        client.set_model_version_tag(name, version.version, tags.DATA_DIGEST, "sha256:dd")
        client.set_model_version_tag(name, version.version, tags.RUN_KEY, self.run_key(context["ti"]))


class Build(BuildImageOperator):
    def execute(self, context):
        self._built = ImageReference.parse(IMAGE["image"])


class Step(ScoringStepOperator):
    def execute(self, context):
        return {"passed": True}


@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1),
     params={"data": Param("abfss://raw@hr.dfs.core.windows.net/employees.csv", type="string")})
def lineage():
    train = Train(task_id="train_and_register", use_case="attrition", code={})
    build = Build(task_id="build_image", use_case="attrition", model_version="1")
    deploy = Step(task_id="deploy_production", use_case="attrition", target="production", step="deploy", **IMAGE)
    verify = Step(task_id="verify_production", use_case="attrition", target="production", step="verify", **IMAGE)
    train >> build >> deploy >> verify


lineage()
"""


@pytest.fixture(scope="module")
def completed(mlflow_server, tmp_path_factory):
    """The COMPLETE events of a DAG run, by task."""
    home = tmp_path_factory.mktemp("lineage")
    (home / "dags").mkdir()
    (home / "dags" / "lineage.py").write_text(DAG)
    (home / "settings.toml").write_text(
        'environment = "test"\nairflow_url = "http://airflow"\nmlflow_url = "http://mlflow"\n'
        '[use_cases.attrition]\nmodel_name = "lineage_model"\nexperiment = "/Shared/lineage"\n'
    )
    host, port = mlflow_server.removeprefix("http://").split(":")
    events = home / "events.jsonl"
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "file", "log_file_path": str(events), "append": True}),
        "AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD": "True",
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "lifecycle",
        "AIRFLOW_CONN_MLFLOW": json.dumps({"conn_type": "http", "host": host, "port": int(port)}),
        "LIFECYCLE_SETTINGS": str(home / "settings.toml"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")]),
    }
    for command in (["db", "migrate"], ["dags", "test", "lineage"]):
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *command], env=environment, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert events.is_file(), done.stdout[-4000:]
    found = [json.loads(line) for line in events.read_text().splitlines()]
    return {event["job"]["name"].removeprefix("lineage."): event for event in found if event["eventType"] == "COMPLETE"}


def named(datasets):
    """(namespace, name, version) of each data set."""
    return [(one["namespace"], one["name"], one["facets"].get("version", {}).get("datasetVersion")) for one in datasets]


def test_training_leads_from_the_data_to_a_run_and_a_model_version(completed):
    event = completed["train_and_register"]
    assert event["job"]["namespace"] == "lifecycle"
    assert named(event["inputs"]) == [("abfss://raw@hr.dfs.core.windows.net", "/employees.csv", "sha256:dd")]
    run, model = named(event["outputs"])
    assert run[:2] == ("http://mlflow", "experiments/Shared/lineage")
    assert len(run[2]) == 32
    assert model == ("http://mlflow", "models/lineage_model", "1")


def test_chain_is_unbroken_from_the_data_to_the_deployment(completed):
    steps = [completed[task] for task in ("train_and_register", "build_image", "deploy_production")]
    for earlier, later in itertools.pairwise(steps):
        assert set(named(later["inputs"])) <= set(named(earlier["outputs"]))
        assert later["inputs"]
    assert named(steps[1]["outputs"]) == [("oci://registry.example.com/hr", "scoring", digest("aa"))]
    assert named(steps[2]["outputs"]) == [("lifecycle://test", "attrition/production", digest("aa"))]


def test_step_that_deploys_nothing_makes_no_data_set(completed):
    event = completed["verify_production"]
    assert not event["inputs"]
    assert not event["outputs"]
