"""
# Put an earlier release back into production

Deploys the image digest of a version that was approved before, without a build, verifies it and moves
the registry's alias `champion` to it. Use it when production misbehaves after a release.

**Params.** `version`: registry version, empty for `previous_champion`; `reason`: required, kept with the
run. Example: `{"reason": "error rate doubled after version 8"}`.

**Safe to repeat.** Every task. There is no gate: the digest was approved when it was released, and the
evidence of that release must still have the digest that was tagged.

**Beside a release.** Fails at once, and changes nothing, while a release is between its approval and its end:
wait for that, or mark that run as failed. A release that waits at its gate is no hindrance; it will be refused.

**If it fails.** A failed rollout leaves production as it was. Read the log of `deploy_production`: it ends
with the events and last lines of the failing pods. If `verify_production` fails, the earlier image runs while
the alias `champion` is where it was: clear the task, or roll back to another version. A version that was never
approved is refused.

**Does not guard against** data or contract changes since that release: callers of newer fields get 422.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, Metadata, Param, dag, get_current_context, task

from lifecycle.defaults import DEFAULT_ARGS, START_DATE, TAG_RELEASE
from lifecycle.operators.release_step import ScoringStepOperator
from lifecycle.tasks.release import PRODUCTION

attrition_production = Asset("attrition_production")

EARLIER = "ti.xcom_pull('resolve_earlier_release')"
IMAGE: dict[str, Any] = {
    "conn_id": PRODUCTION,
    "target": "production",
    **{key: f"{{{{ {EARLIER}['{key}'] }}}}" for key in ("image", "digest", "version")},
    "approved_digest": f"{{{{ {EARLIER}['digest'] }}}}",
}


@dag(
    schedule=None,
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,  # an emergency does not wait for somebody to find the switch
    dagrun_timeout=timedelta(hours=2),
    tags=[TAG_RELEASE],
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    params={
        "version": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            description="Registry version. Empty: previous_champion.",
        ),
        "reason": Param(type="string", minLength=3, maxLength=500, description="Why production goes back."),
    },
)
def attrition_rollback() -> None:
    @task
    def resolve_earlier_release() -> dict[str, Any]:
        """Find the version and the digest that was approved for it."""
        from lifecycle.tasks import release

        return release.resolve_rollback(get_current_context())

    @task(outlets=[attrition_production])
    def promote(earlier: Any) -> Any:
        """Move the aliases back."""
        from lifecycle.tasks import release

        yield Metadata(attrition_production, release.promote(get_current_context(), earlier, earlier["digest"]))

    earlier = resolve_earlier_release()
    deploy_production = ScoringStepOperator(task_id="deploy_production", step="deploy", **IMAGE)
    verify_production = ScoringStepOperator(task_id="verify_production", step="verify", **IMAGE)
    earlier >> deploy_production >> verify_production >> promote(earlier)


attrition_rollback()
