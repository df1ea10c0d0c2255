"""
# Train a model: $title

Runs one Databricks job (prepare, tune, evaluate, register) on a data file and, when the challenger's
verdict allows it, registers a model version with alias `challenger`. That updates the asset
`$version_asset`, which starts `$release_dag`. Nothing is deployed here.

**Params.** `data`: CSV, Parquet or Delta that the job can read, empty for the settings' default; `trials`:
tuning trials; `seed`: the same seed gives the same trials; `force`: register even when the verdict is
*failed* (a tag on the version says so). Example: `{"data": "/Volumes/raw/$use_case.csv",
"trials": 60}`.

**Safe to repeat.** Each task finds what its earlier tries made: the code's folder, the Databricks run, the
model version. Killing `train_and_register` cancels the Databricks run.

**If it fails.** `train_and_register` shows the job's own traceback in its log and links to the run's page.
A bad file is listed there fault by fault; mend the file and trigger a new run. If MLflow or Databricks was
down, clear the task: the job goes on where it was. If `announce_model_version` is *skipped*, the verdict
was *failed*: its log and the run's note say why.

**Does not guard against** a data file that is well-formed and wrong.
"""

from typing import Any

from airflow.sdk import DAG

from lifecycle import settings
from lifecycle.assets import version_of
from lifecycle.defaults import START_DATE, TRAINING, default_args, job_timeout, shown
from lifecycle.operators.training_run import TrainingRunOperator
from lifecycle.params import flag, optional, planned, table
from lifecycle.task_ids import TRAIN_AND_REGISTER
from lifecycle.tasks.training import announce_model_version, publish_code
from lifecycle.use_cases import load_all
from training.use_case import UseCase


def train(use_case: UseCase) -> None:
    """The training DAG of one use case."""
    found = settings.load().of(use_case.name)
    with DAG(
        use_case.train_dag,
        schedule=None,
        start_date=START_DATE,
        catchup=False,
        max_active_runs=2,
        dagrun_timeout=job_timeout(TrainingRunOperator.steps),
        tags=[use_case.name, TRAINING],
        default_args=default_args(use_case),
        **shown(__doc__, use_case),
        params={
            "data": table("Training data", found.data),
            **({"plan": planned(found.plan)} if use_case.series else {}),
            "trials": optional("integer", "Tuning trials", "", otherwise=str(found.trials), minimum=1, maximum=1000),
            "seed": optional(
                "integer",
                "Seed",
                "The same seed gives the same trials.",
                otherwise=str(found.seed),
                minimum=0,
                maximum=2**31 - 1,
            ),
            "force": flag(
                "Register in any case",
                "Registers the model even if it misses a threshold; a tag on the version says so.",
            ),
        },
    ):
        code = publish_code(use_case.name)
        trained = TrainingRunOperator(task_id=TRAIN_AND_REGISTER, use_case=use_case.name, code=code)
        outcome: Any = trained.output
        announce = announce_model_version.override(outlets=[version_of(use_case)])
        announce(use_case.name, outcome["run_key"])


for each in load_all()[0]:
    train(each)
