"""
# Forecast every series: $title

Forecasts every series of the history that has not ended, with an interval for each week, by the version in production
and the code that was approved with it. The result is one partition of table `scores`; version and bundle digest
stand in every row. Known fields of weeks to come are read from the plan; where it has no row, the last value and no
promotion are assumed, and the run's note counts such rows.

**The first run after a release** forecasts with both versions. The new one's forecasts go to table `beside` and are
compared with those of the version in production: change of the total, share within its intervals. Within the limits
of the settings the new version takes over (the former partition is kept in table `former`); otherwise people are told,
it runs beside again the next time, and nothing changes in production.

**Params.** `input`: the history as the job reaches it, empty for the settings' `data`; `plan`: likewise, `-` for none;
`date`: the partition that is replaced, empty for the run's own date; `take_over`: the version that runs beside takes
over whatever the comparison says. Example: `{"input": "/Volumes/ml/sales", "date": "2026-11-02"}`.

**Safe to repeat.** Every task. Versions are decided by the first task and kept with the run, and a partition is
replaced as a whole: the same tables give the same rows, and the same bytes of Parquet. A task of an old run that is
cleared lets nothing take over once a rollback, or another run, has put the champion into production again.

**If it fails.** `pin_versions`: no version is in production (release one), or its approval does not count. `find_code`:
the workspace has lost the approved code. `score`: the job's log names table, line and fault. `score_beside` alone: the
forecasts of the version in production stand; clear it, or roll back to end the trial.

**Result.** The asset `$scores_asset` is updated with date, version and counts.

**Does not guard against** a history or a plan that is well-formed and wrong.
"""

from typing import Any

from airflow.sdk import DAG

from lifecycle import settings
from lifecycle.assets import production_of, scores_of
from lifecycle.defaults import SCORING, START_DATE, by_the_clock, default_args, job_timeout, shown
from lifecycle.operators.forecast_run import ForecastRunOperator
from lifecycle.params import day, flag, planned, table
from lifecycle.tasks.forecasting import announce_forecasts, approved_code, order_of, pin_versions, take_over
from lifecycle.use_cases import load_all
from training.use_case import UseCase


def forecast(use_case: UseCase) -> None:
    """The forecast DAG of one use case."""
    name, found = use_case.name, settings.load().of(use_case.name)
    with DAG(
        use_case.score_dag,
        schedule=by_the_clock(use_case.score_schedule) if use_case.score_schedule else None,
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=job_timeout(ForecastRunOperator.steps),
        tags=[name, SCORING],
        default_args=default_args(use_case),
        **shown(__doc__, use_case),
        params={
            "input": table("History", found.data),
            "plan": planned(found.plan),
            "date": day("Date of the scores. Scores that the table has of that date are replaced."),
            "take_over": flag(
                "Take over", "The version that runs beside the champion takes over, whatever their comparison says."
            ),
        },
    ):
        pinned: Any = pin_versions(name)
        score = ForecastRunOperator(
            task_id="score",
            use_case=name,
            code=approved_code.override(task_id="find_code")(name, pinned, "champion"),
            pinned=order_of(pinned, "champion"),
        )
        score_beside = ForecastRunOperator(
            task_id="score_beside",
            use_case=name,
            code=approved_code.override(task_id="find_code_beside")(name, pinned, "beside"),
            pinned=order_of.override(task_id="order_of_beside")(pinned, "beside"),
        )
        announce: Any = announce_forecasts.override(outlets=[scores_of(use_case)], trigger_rule="none_failed")
        taken_over: Any = take_over.override(outlets=[production_of(use_case)])
        announced: Any = announce(name, pinned)
        # Without a version beside, its task is skipped at once, and does not wait for the other one.
        score >> announced
        score >> score_beside >> announced >> taken_over(name, pinned)


for found in load_all()[0]:
    if found.series:
        forecast(found)
