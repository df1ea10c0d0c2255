"""
# Start what new files ask for: $title

Looks at files that have arrived in `bronze` and in the outcomes folder of the settings, and starts `$train_dag`,
`$score_dag` or `$retrain_dag`, as `start_on_data` and `start_on_outcomes` say. It runs as soon as an event tells of a
file (assets `$data_asset` and `$outcomes_asset`), and on the schedule `sweep`, which looks through the folders and
finds what no event told of. The schedule alone is enough: `listen = false` turns the events off.

**Params.** None. A run by hand looks through the folders.

**Files.** Each is a whole table: where several have come, the newest is trained on, and the newest of each date
(`YYYY-MM-DD` in its name) is scored. Hidden files and, in `bronze`, whatever is neither CSV nor Parquet do not count.

**Safe to repeat.** Every task. A started run is named after the file and its version, so that a file starts one run,
however often and by whomever it is told of. What was looked at is kept in `arrivals` of the tables.

**If it fails.** `look_at_arrivals`: the folder cannot be listed, or the settings name no `tables`; mend that and
clear it, or wait for the next sweep. `start_runs`: the DAG that it names is not there. Messages that nobody can read
go to the queue's dead letters, with an alert. Nothing has started although a file lies there: is this DAG paused?

**Does not guard against** a file that is well-formed and wrong: the gate of the release does.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from lifecycle.defaults import ARRIVALS, START_DATE, default_args, shown
from lifecycle.events.assets import schedule
from lifecycle.operators.start_run import StartRunOperator
from lifecycle.tasks.arrivals import look_at_arrivals, plan_runs, remember_arrivals
from lifecycle.use_cases import load_all
from training.use_case import UseCase


def arrivals(use_case: UseCase) -> None:
    """The arrivals DAG of one use case, where its settings start anything by new files."""
    if (when := schedule(use_case)) is None:
        return
    with DAG(
        use_case.arrivals_dag,
        schedule=when,
        start_date=START_DATE,
        catchup=False,  # one look finds all that has come
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=1),
        tags=[use_case.name, ARRIVALS],
        default_args=default_args(use_case),
        **shown(__doc__, use_case),
    ):
        found: Any = look_at_arrivals(use_case.name)
        planned: Any = plan_runs(use_case.name, found)
        started = StartRunOperator.partial(
            task_id="start_runs", reset_dag_run=False, skip_when_already_exists=True
        ).expand_kwargs(planned)
        started >> remember_arrivals(use_case.name, found, planned)


for one in load_all()[0]:
    arrivals(one)
