"""
# Resume scoring in production: $title

Takes back what `$stop_dag` did: removes the stop switch and waits until no scoring server of production says
*stopped* any more. What runs is what ran when it was stopped.

**Params.** `reason`: required, kept with the run. Example: `{"reason": "the feed has been mended"}`.

**Safe to repeat.** Every task. Where nothing is stopped it changes nothing. A stop that is younger than the wish to
resume stays: a task of an old run that is cleared takes back no later one.

**If it fails.** `resume_production` names the pods that still say *stopped* after 120 seconds; the switch is off, so
clear the task to look again, or delete those pods. If `record_resume` alone fails, scoring goes on and MLflow does
not know it yet: clear it.

**Does not guard against** the cause of the stop being still there.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from lifecycle.defaults import RELEASE, START_DATE, default_args, shown
from lifecycle.operators.release_step import ScoringStepOperator
from lifecycle.params import required_text
from lifecycle.tasks.switch import look_up_running, record_resume
from lifecycle.use_cases import load_all
from training.use_case import UseCase


def resume(use_case: UseCase) -> None:
    """The resume DAG of one use case."""
    with DAG(
        use_case.resume_dag,
        schedule=None,
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        dagrun_timeout=timedelta(hours=1),
        tags=[use_case.name, RELEASE],
        default_args=default_args(use_case),
        **shown(__doc__, use_case),
        params={"reason": required_text("Reason", "Why scoring may go on; kept with the run.")},
    ):
        running: Any = look_up_running(use_case.name)
        what: dict[str, Any] = {"image": "", "version": running["version"], "said": running["said"]}
        resume_production = ScoringStepOperator(
            task_id="resume_production", step="resume", use_case=use_case.name, target="production", **what
        )
        resume_production >> record_resume(use_case.name, running)


for found in load_all()[0]:
    if found.online:
        resume(found)
