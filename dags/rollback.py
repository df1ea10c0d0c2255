"""
# Put an earlier release back into production: $title

Deploys the image of a version that was approved before, without a build, verifies it and moves
the registry's alias `champion` to it. Use it when production misbehaves after a release.

**Params.** `version`: registry version, empty for `previous_champion`; `reason`: required, kept with the
run. Example: `{"reason": "error rate doubled after version 8"}`.

**Safe to repeat.** Every task. There is no gate: the image was approved when it was released, and the
evidence of that release must hold an approval with a signature that counts. A task of an old run that is cleared
changes nothing once another run has changed production.

**Beside a release.** Fails at once, and changes nothing, while a release is between its approval and its end:
wait for that, or mark that run as failed. A release that waits at its gate does not stop a rollback; it is refused
afterwards.

**If it fails.** A failed rollout leaves production as it was. Read the log of `deploy_production`: it ends
with the events and last lines of the failing pods. If `verify_production` fails, the earlier image runs while
the alias `champion` is where it was: clear the task, or roll back to another version. A version that was never
approved, was rejected, or has an *unsigned* approval (given before approvals were signed) is refused: release it with
`$release_dag`. An image that nobody has signed is refused too; the message says how to sign it by hand.

**Does not guard against** data or contract changes since that release: callers of newer fields get 422.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from lifecycle.assets import production_of
from lifecycle.defaults import RELEASE, START_DATE, default_args, shown
from lifecycle.operators.release_step import ScoringStepOperator
from lifecycle.params import required_text, version
from lifecycle.tasks.release import promote
from lifecycle.tasks.rollback import resolve_earlier_release
from lifecycle.use_cases import load_all
from training.use_case import UseCase

FOUND = "{{ ti.xcom_pull('resolve_earlier_release')['production']['image'] }}"
"""What production ran when this rollback began: a template, because an XComArg does not reach into an inner
dictionary."""


def rollback(use_case: UseCase) -> None:
    """The rollback DAG of one use case."""
    with DAG(
        use_case.rollback_dag,
        schedule=None,
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,  # an emergency does not wait for somebody to find the switch
        dagrun_timeout=timedelta(hours=2),
        tags=[use_case.name, RELEASE],
        default_args=default_args(use_case),
        **shown(__doc__, use_case),
        params={
            "version": version("the version that was in production before (previous_champion)"),
            "reason": required_text("Reason", "Why an earlier version has to come back; kept with the run."),
        },
    ):
        earlier: Any = resolve_earlier_release(use_case.name)
        image: dict[str, Any] = {key: earlier[key] for key in ("image", "version")}
        to: dict[str, Any] = {"use_case": use_case.name, "target": "production", "approved_image": earlier["image"]}
        deploy_production = ScoringStepOperator(
            task_id="deploy_production", step="deploy", replaces=FOUND, **to, **image
        )
        verify_production = ScoringStepOperator(task_id="verify_production", step="verify", **to, **image)
        promoted = promote.override(outlets=[production_of(use_case)])
        deploy_production >> verify_production >> promoted(use_case.name, earlier, earlier["image"])


for found in load_all()[0]:
    if found.online:
        rollback(found)
