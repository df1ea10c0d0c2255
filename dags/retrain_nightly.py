"""
# Retrain every night, if there is reason to: $title

Closes the loop: copies the new lines of the exported inference logs, curates them into tables of scored and
labelled records, compares the night with the champion's training data and its answers with the outcomes that
have arrived, and decides. A reason to retrain starts `$train_dag` on the labelled table; its challenger is
compared with the champion on those hold-out records whose outcomes came with the feed, and ends at the same gate as
any other. No reason: `decide` is *skipped* and the run's note says why.

**Params.** `night_from`, `night_to`: days to close (UTC), empty for all since the last one that was closed, at
most 31 a run; `retrain`: train whatever the verdict. Example: `{"night_from": "2026-11-02", "night_to":
"2026-11-08", "retrain": false}`. A night of the future and a longer range are refused.

**Data.** The training table begins with the data that the champion was trained on, as its training run keeps them, and
with `data` of the settings while there is no champion. Labelled records follow.

**Safe to repeat.** Every task and every night. What was copied from the export is kept as byte ranges and not
copied twice; tables are made again with the same bytes; a night starts at most one training run and sends each
alert once. A run that comes after missed ones closes their nights too.

**If it fails.** `land_logs`: connection `logs` or its container; the message names what to set. `curate_and_judge`
shows the job's traceback in its log: a storage or MLflow outage is over when the task is cleared. A table that was
damaged by hand: delete the night's `staging` folder (or the day's `inference` folder) and close that night again.
Unreadable lines fail nothing: they are in table `quarantine` with blob, byte offset and reason.

**Alerts** (connection `alerts`: smtp or http, otherwise the log): drift confirmed, live quality below its limit, too
many unreadable lines, no logs for a day while production was up; more rows or files of the outcomes feed unread than
`unread_share`, a feed that lost a file or brought nothing for `feed_days`, more records about one key than
`one_key_share`, a night with records that could not be judged, many records without their other half.

**Outcomes** are joined by $key. Where the scoring server drops or hashes sensitive fields in its log
(`SCORING_LOG_SENSITIVE`), none can be: drift is judged, live quality and new labels are not.

**Does not guard against** an outcomes feed that is well-formed and wrong, or a request id that a client uses twice
within one millisecond: such records stay in table `unpaired`.
"""

from typing import Any

from airflow.sdk import DAG

from lifecycle.defaults import RETRAINING, START_DATE, by_the_clock, default_args, job_timeout, shown
from lifecycle.operators.nightly_run import NightlyRunOperator
from lifecycle.operators.start_run import start_training
from lifecycle.params import flag, optional
from lifecycle.task_ids import CURATE_AND_JUDGE
from lifecycle.tasks.retraining import decide, land_logs
from lifecycle.tasks.training import publish_code
from lifecycle.use_cases import load_all
from training.use_case import UseCase


def retrain_nightly(use_case: UseCase) -> None:
    """The nightly DAG of one use case."""
    with DAG(
        use_case.retrain_dag,
        schedule=by_the_clock("0 2 * * *"),
        start_date=START_DATE,
        catchup=False,  # a run closes all nights since the last one, so missed runs need none of their own
        max_active_runs=1,
        dagrun_timeout=job_timeout(NightlyRunOperator.steps),
        tags=[use_case.name, RETRAINING],
        default_args=default_args(use_case),
        **shown(__doc__, use_case),
        params={
            "night_from": optional(
                "string", "First day to close", "", otherwise="the day after the last closed one", format="date"
            ),
            "night_to": optional("string", "Last day to close", "", otherwise="yesterday (UTC)", format="date"),
            "retrain": flag("Retrain in any case", "Starts a training run, whatever the verdict is."),
        },
    ):
        landed: Any = land_logs(use_case.name)
        judged = NightlyRunOperator(
            task_id=CURATE_AND_JUDGE,
            use_case=use_case.name,
            code=publish_code(use_case.name),
            nights=landed["nights"],
        )
        decided: Any = decide(use_case.name, landed["nights"])
        judged >> decided >> start_training(use_case, decided, "data")


for found in load_all()[0]:
    if found.online:
        retrain_nightly(found)
