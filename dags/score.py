"""
# Score a table: $title

Scores every row of a table (CSV, Parquet or Delta) with the champion, by the library that the server uses: the same
record has the same probability online and in batch. The result is one partition of table `scores`; rows that
break the contract stand in `rejected_rows` with their reasons. Rows read are always rows scored and rows rejected.

**Params.** `input`: path or URI of the table as the job reaches it, empty for the settings' `batch`; `date`: the
partition that is replaced, empty for the run's own date; `version`: registry version, empty for the champion, and one
that was approved for production in any case;
`explain`: whether each score has its reasons beside it, as JSON text.
Example: `{"input": "/Volumes/ml/people/2026-11.parquet", "date": "2026-11-01"}`. Dates of the past: Airflow's own
backfill, where the use case has a schedule.

**Safe to repeat.** Every task. Version and bundle digest are decided by the first task and kept with the run, so that
a run that is cleared scores with the same model; they stand in every row. A partition is replaced as a whole: readers
find the old one or the new one, and the same table gives the same rows.

**If it fails.** `pin_model`: there is no champion yet (release a version, or give `version`), no table is named, or
approval or bundle do not count (*was never approved*, *is not signed*: release the version).
`score`: the job's log names the table and what is wrong with it as a whole, such as a missing column. Single bad rows
fail nothing. Two runs of one date: the later one counts, and the earlier one fails at `announce_scores`.

**Result.** The asset `$scores_asset` is updated with date, version and counts, and so is the run's note.

**Does not guard against** a table that is well-formed and wrong.
"""

from typing import Any

from airflow.sdk import DAG

from lifecycle import settings
from lifecycle.assets import scores_of
from lifecycle.defaults import SCORING, START_DATE, by_the_clock, default_args, job_timeout, shown
from lifecycle.operators.batch_run import BatchRunOperator
from lifecycle.params import day, flag, table, version
from lifecycle.tasks.scoring import announce_scores, pin_model
from lifecycle.tasks.training import publish_code
from lifecycle.use_cases import load_all
from training.use_case import UseCase


def score(use_case: UseCase) -> None:
    """The batch scoring DAG of one use case."""
    with DAG(
        use_case.score_dag,
        schedule=by_the_clock(use_case.score_schedule) if use_case.score_schedule else None,
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=job_timeout(BatchRunOperator.steps),
        tags=[use_case.name, SCORING],
        default_args=default_args(use_case),
        **shown(__doc__, use_case),
        params={
            "input": table("Table", settings.load().of(use_case.name).batch),
            "date": day("Date of the scores. Scores that the table has of that date are replaced."),
            "version": version("the champion"),
            "explain": flag(
                "Reasons",
                "Adds the columns base, reasons and other, which say why a row has its probability. Takes longer.",
            ),
        },
    ):
        pinned: Any = pin_model(use_case.name)
        scored = BatchRunOperator(
            task_id="score", use_case=use_case.name, code=publish_code(use_case.name), pinned=pinned
        )
        announce = announce_scores.override(outlets=[scores_of(use_case)])
        scored >> announce(use_case.name, pinned)


for found in load_all()[0]:
    if not found.series:
        score(found)
