"""
# Put an earlier release that writes a table back: $title

Makes a version that was approved before the champion again, and lets the newest partition of the table be its own: as
it was where another version has replaced it, otherwise forecast again by its bundle and the code that was approved with
it, from the same weeks. A version that runs beside the champion is ended. Use it when the table is wrong after a
release.

**Params.** `version`: registry version, empty for `previous_champion`; `reason`: required, kept with the
run. Example: `{"reason": "orders doubled after version 8"}`.

**Safe to repeat.** Every task. There is no gate: the version was approved when it was released, and the
evidence of that release must hold an approval with a signature that counts. A task of an old run that is cleared
moves no alias once another run has.

**Beside a release.** Fails at once, and changes nothing, while a release is between its approval and its end: wait for
that, or mark that run as failed.

**If it fails.** Before `promote` the aliases are where they were. `restore`: read the job's log and clear it. A version
that was never approved, or was rejected, is refused: release it with `$release_dag`.

**Does not guard against** what people have done with the wrong table meanwhile: earlier partitions stay as they are.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from lifecycle.assets import production_of
from lifecycle.defaults import RELEASE, START_DATE, default_args, shown
from lifecycle.operators.forecast_run import ForecastRunOperator
from lifecycle.params import required_text, version
from lifecycle.task_ids import PROMOTE
from lifecycle.tasks.forecasting import approved_code, order_of, pin_former
from lifecycle.tasks.release import bring_back
from lifecycle.tasks.rollback import resolve_earlier_release
from lifecycle.use_cases import load_all
from training.use_case import UseCase


def rollback_table(use_case: UseCase) -> None:
    """The rollback DAG of one use case without a server."""
    name = use_case.name
    with DAG(
        use_case.rollback_dag,
        schedule=None,
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,  # an emergency does not wait for somebody to find the switch
        dagrun_timeout=timedelta(hours=2),
        tags=[name, RELEASE],
        default_args=default_args(use_case),
        **shown(__doc__, use_case),
        params={
            "version": version("the version that was in production before (previous_champion)"),
            "reason": required_text("Reason", "Why an earlier version has to come back; kept with the run."),
        },
    ):
        earlier: Any = resolve_earlier_release(name)
        promoted: Any = bring_back.override(
            task_id=PROMOTE, outlets=[production_of(use_case)], trigger_rule="none_failed"
        )(name, earlier)
        if use_case.series:
            pinned: Any = pin_former(name, earlier)
            restore = ForecastRunOperator(
                task_id="restore",
                use_case=name,
                code=approved_code(name, pinned, "champion"),
                pinned=order_of(pinned, "champion"),
            )
            restore >> promoted


for found in load_all()[0]:
    if not found.online:
        rollback_table(found)
