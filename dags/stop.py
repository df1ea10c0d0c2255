"""
# Stop scoring in production at once: $title

Every scoring server of production answers `POST /predict` with 503 and the reason, until `$resume_dag` runs.
Probes stay green, so nothing is restarted or moved. Use it when answers must not be given: wrong data, a wrong
model, a question of law. It needs neither the registry nor a build, and asks for no image: whatever runs is stopped,
the canary of a first release as well.

**Params.** `reason`: required; callers read it in the answer. Example: `{"reason": "salaries are a month old"}`.

**What it does.** Writes the target's stop switch (on Kubernetes the ConfigMap `scoring-stop`, which every pod
mounts), then waits until `/version` of every pod says *stopped*: the cluster brings a changed ConfigMap into its
pods within a minute or so, and a server obeys it within a second. Pods that start later start stopped.

**Meanwhile** no release and no rollback starts, and a release that waits at its gate fails before production is
touched. One that is already past its gate will fail to verify and put back what ran before.

**Safe to repeat.** Every task. A second stop replaces the reason of the first.

**If it fails.** `stop_production` names the pods that have not said *stopped* within 120 seconds; the switch stays
set, so clear the task to look again, or delete those pods: they start stopped. If `record_stop` alone fails, scoring is
stopped and MLflow does not know it yet: clear it.

**Does not guard against** callers that keep earlier answers, or batch scoring.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from lifecycle.defaults import RELEASE, START_DATE, default_args, shown
from lifecycle.operators.release_step import ScoringStepOperator
from lifecycle.params import required_text
from lifecycle.tasks.switch import look_up_running, record_stop
from lifecycle.use_cases import load_all
from training.use_case import UseCase


def stop(use_case: UseCase) -> None:
    """The stop DAG of one use case."""
    with DAG(
        use_case.stop_dag,
        schedule=None,
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,  # an emergency does not wait for somebody to find the switch
        dagrun_timeout=timedelta(hours=1),
        tags=[use_case.name, RELEASE],
        default_args=default_args(use_case),
        **shown(__doc__, use_case),
        params={"reason": required_text("Reason", "Why scoring has to stop. Callers read this in the answer.")},
    ):
        running: Any = look_up_running(use_case.name)
        what: dict[str, Any] = {"image": "", "version": running["version"], "said": running["said"]}
        stop_production = ScoringStepOperator(
            task_id="stop_production", step="stop", use_case=use_case.name, target="production", **what
        )
        stop_production >> record_stop(use_case.name, running)


for found in load_all()[0]:
    if found.online:
        stop(found)
