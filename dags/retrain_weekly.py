"""
# Judge the forecasts every week, and retrain if there is reason to: $title

Closes the loop: compares what the version in production has forecast with the weeks that have ended since (WAPE, bias,
coverage of the interval, tracking signal), and the inputs of the recent weeks with those that it has learned from. What
is poor in the same way for several weeks is confirmed: people are told, and `$train_dag` is started on the history. Its
challenger ends at the same gate as any other. No reason: `decide_weeks` is *skipped* and the run's note says why.

**Params.** `input`: the history as the job reaches it, empty for the settings' `data`; `plan`: for the training, `-`
for none; `date`: the date that is judged, empty for the run's own; `retrain`: train whatever the verdict.
Example: `{"retrain": true}`.

**Safe to repeat.** Every task. A date's verdict is written as a whole, starts at most one training run and sends each
alert once.

**If it fails.** `judge` shows the job's traceback in its log: a bad history is told line by line, an outage of storage
or MLflow is over when the task is cleared.

**Does not guard against** a history that is well-formed and wrong, and does not see what a week without stock hides.
"""

from typing import Any

from airflow.sdk import DAG

from lifecycle import settings
from lifecycle.defaults import RETRAINING, START_DATE, by_the_clock, default_args, job_timeout, shown
from lifecycle.operators.forecast_run import JudgeRunOperator
from lifecycle.operators.start_run import start_training
from lifecycle.params import day, flag, planned, table
from lifecycle.tasks.forecasting import decide_weeks, order_of_judging
from lifecycle.tasks.training import publish_code
from lifecycle.use_cases import load_all
from training.use_case import UseCase


def retrain_weekly(use_case: UseCase) -> None:
    """The weekly DAG of one use case."""
    name, found = use_case.name, settings.load().of(use_case.name)
    with DAG(
        use_case.retrain_dag,
        schedule=by_the_clock("0 4 * * 1"),
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=job_timeout(JudgeRunOperator.steps),
        tags=[name, RETRAINING],
        default_args=default_args(use_case),
        **shown(__doc__, use_case),
        params={
            "input": table("History", found.data),
            "plan": planned(found.plan),
            "date": day("Weeks that have ended by this date are judged."),
            "retrain": flag("Train in any case", "Starts a training run, whatever the verdict is."),
        },
    ):
        order: Any = order_of_judging(name)
        judged = JudgeRunOperator(task_id="judge", use_case=name, code=publish_code(name), pinned=order)
        decided: Any = decide_weeks(name, order)
        judged >> decided >> start_training(use_case, decided, "data", "plan")


for found in load_all()[0]:
    if found.series:
        retrain_weekly(found)
