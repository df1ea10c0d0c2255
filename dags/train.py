"""
# Train the attrition model

Runs one Databricks job (prepare, tune, evaluate, register) on a data file and, when the challenger's
verdict allows it, registers a model version with alias `challenger`. That updates the asset
`attrition_model_version`, which starts `attrition_release`. Nothing is deployed here.

**Params.** `data`: CSV or Parquet that the job can read, empty for the settings' default; `trials`:
tuning trials; `seed`: the same seed gives the same trials; `force`: register even when the verdict is
*failed* (a tag on the version says so). Example: `{"data": "/Volumes/hr/attrition/raw/employees.csv",
"trials": 60}`.

**Safe to repeat.** Each task finds what its earlier tries made: the code's folder, the Databricks run, the
model version. Killing `train_and_register` cancels the Databricks run.

**If it fails.** `train_and_register` shows the job's own traceback in its log and links to the run's page.
A bad file is listed there fault by fault; mend the file and trigger anew. If MLflow or Databricks was
down, clear the task: the job goes on where it was. If `announce_model_version` is *skipped*, the verdict
was *failed*: its log and the run's note say why.

**Does not guard against** a data file that is well-formed and wrong.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, Param, dag, get_current_context, task

from lifecycle.defaults import DEFAULT_ARGS, START_DATE, TAG_TRAINING
from lifecycle.operators.training_run import TrainingRunOperator

attrition_model_version = Asset("attrition_model_version")


@dag(
    schedule=None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=2,
    dagrun_timeout=timedelta(hours=6),
    tags=[TAG_TRAINING],
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    params={
        "data": Param("", type="string", title="Training data", description="CSV or Parquet. Empty: the settings'."),
        "trials": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=1000,
            description="Tuning trials. Empty: the settings'.",
        ),
        "seed": Param(
            None, type=["null", "integer"], minimum=0, maximum=2**31 - 1, description="Empty: the settings'."
        ),
        "force": Param(False, type="boolean", description="Register even when the verdict is 'failed'."),
    },
)
def attrition_train() -> None:
    @task
    def publish_code() -> dict[str, Any]:
        """Publish the training code under its content hash."""
        from lifecycle import settings
        from lifecycle.tasks import publish

        return publish.publish(publish.WorkspaceHook(), settings.load().training.code_root)

    @task(outlets=[attrition_model_version])
    def announce_model_version(run_key: Any) -> dict[str, str]:
        """Update the asset with the version that was registered, or skip and say why there is none."""
        from lifecycle.tasks import training_outcome

        return training_outcome.announce(get_current_context(), attrition_model_version, run_key)

    train_and_register = TrainingRunOperator(task_id="train_and_register", code=publish_code())
    # The operator returns nothing and pushes its key under a name of its own.
    run_key: Any = train_and_register.output
    announce_model_version(run_key["run_key"])


attrition_train()
