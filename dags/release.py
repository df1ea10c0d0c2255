"""
# Release a model version

Takes one registered version to production: builds its image, deploys and verifies it in staging, asks a
person, lets a canary take a share of production's traffic, rolls out, verifies, and moves the registry's
alias `champion`. Starts by hand, or when `attrition_train` updates the asset `attrition_model_version`.

**Params.** `version`: registry version, empty for the asset's or the `challenger`; `note`: shown to the
approver. Example: `{"version": 7, "note": "spring data"}`.

**Gate.** `await_approval` waits on *Browse > Required Actions* for one of the approvers in the settings.
No answer in time is a no. A rejection skips production, puts the champion's image back in staging, tags
the version `rejected` and is no failure: the run ends green, with `record_rejection` run and its note
saying who and why. Production refuses an image digest that nobody approved. An approval that an earlier
release got for the same image outlives a rejection. An answer counts whenever it arrives: where Airflow loses it
(within seconds of the question), the next try goes on with it, and nobody has to clear anything. The time limit
counts from the first question. Where what is approved (version, image, evidence) is no longer what was asked about,
because a task before the gate was cleared and found something else, the gate fails: trigger a new run.

**Beside a rollback.** Only one of them changes production. `record_approval` fails, before production is
touched, while `attrition_rollback` runs and where production is no longer what the gate showed: release again.

**Safe to repeat.** Every task: image, pods and aliases are looked up before they are made.

**If it fails.** Before `record_approval` nothing touches production: read the red task's log, clear it.
After it, `restore_production` puts the previous digest back, aliases stay as they were, staging is left
for study, and the run's note has the reason. If `restore_production` itself fails, production needs a
person at once: run `attrition_rollback`.

**Does not guard against** a model that is wrong in a way that neither the evaluation nor the canary sees.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, Metadata, Param, dag, get_current_context, task

from lifecycle.defaults import DEFAULT_ARGS, START_DATE, TAG_RELEASE
from lifecycle.operators.build_image import BuildImageOperator
from lifecycle.operators.release_step import ScoringStepOperator
from lifecycle.sensors.approval import ManualGateSensor
from lifecycle.tasks.release import PRODUCTION, STAGING, skip_unless_approved

attrition_model_version = Asset("attrition_model_version")
attrition_production = Asset("attrition_production")

CANDIDATE = "ti.xcom_pull('resolve_candidate')"
IMAGE: dict[str, Any] = {
    "image": "{{ ti.xcom_pull('build_image')['image'] }}",
    "digest": "{{ ti.xcom_pull('build_image')['digest'] }}",
    "version": f"{{{{ {CANDIDATE}['version'] }}}}",
}
APPROVED: dict[str, Any] = {**IMAGE, "approved_digest": "{{ ti.xcom_pull('record_approval') }}"}


def running(found: str) -> dict[str, Any]:
    """Template arguments for what production was found to run."""
    return {key: f"{{{{ {found}['{key}'] }}}}" for key in ("image", "digest", "version")}


@dag(
    schedule=[attrition_model_version],
    start_date=START_DATE,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(days=7),
    tags=[TAG_RELEASE],
    default_args=DEFAULT_ARGS,
    doc_md=__doc__,
    params={
        "version": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            description="Registry version. Empty: asset or challenger.",
        ),
        "note": Param("", type="string", maxLength=500, description="Shown to the approver."),
    },
)
def attrition_release() -> None:
    @task
    def resolve_candidate() -> dict[str, Any]:
        """Find the version to release and what runs now."""
        from lifecycle.tasks import release

        return release.resolve_candidate(get_current_context())

    @task
    def gather_evidence(candidate: Any, built: Any, staging_report: Any) -> dict[str, Any]:
        """Write the evidence document and render it for the gate."""
        from lifecycle.tasks import release

        return release.gather_evidence(get_current_context(), candidate, built, staging_report)

    @task
    def record_approval(candidate: Any, decision: Any) -> str:
        """Keep the approval and see that production is as it was shown; returns the approved digest."""
        from lifecycle.tasks import release

        return release.record_approval(get_current_context(), candidate, decision)

    @task
    def record_rejection(candidate: Any, decision: Any) -> dict[str, str]:
        """Keep the rejection and tag the version; returns the champion that staging gets back."""
        from lifecycle.tasks import release

        return release.record_rejection(get_current_context(), candidate, decision)

    @task(outlets=[attrition_production])
    def promote(candidate: Any, digest: Any) -> Any:
        """Move the aliases: from here on the registry says that this version is in production."""
        from lifecycle.tasks import release

        yield Metadata(attrition_production, release.promote(get_current_context(), candidate, digest))

    @task
    def record_staging_restored(champion: Any) -> None:
        """Move the alias `staging` back."""
        from lifecycle.tasks import release

        release.record_staging_restored(champion)

    candidate = resolve_candidate()
    build_image = BuildImageOperator(
        task_id="build_image", model_name=f"{{{{ {CANDIDATE}['name'] }}}}", model_version=IMAGE["version"]
    )
    to_staging: dict[str, Any] = {"conn_id": STAGING, "target": "staging"}
    to_production: dict[str, Any] = {"conn_id": PRODUCTION, "target": "production"}
    deploy_staging = ScoringStepOperator(task_id="deploy_staging", step="deploy", **to_staging, **IMAGE)
    verify_staging = ScoringStepOperator(task_id="verify_staging", step="verify", **to_staging, **IMAGE)
    evidence = gather_evidence(candidate, build_image.output, verify_staging.output)
    await_approval = ManualGateSensor(
        task_id="await_approval",
        subject=f"Release {{{{ {CANDIDATE}['name'] }}}} version {IMAGE['version']} to production?",
        body="{{ ti.xcom_pull('gather_evidence')['body'] }}",
        digest="{{ ti.xcom_pull('gather_evidence')['digest'] }}",
        approved_task_id="record_approval",
        rejected_task_id="record_rejection",
        # An answer within seconds of the question costs a try, and the next one goes on with it.
        retries=5,
        retry_delay=timedelta(seconds=3),
        retry_exponential_backoff=False,
    )
    approved = record_approval(candidate, await_approval.output)
    deploy_canary = ScoringStepOperator(task_id="deploy_canary", step="canary", **to_production, **APPROVED)
    watch_canary = ScoringStepOperator(task_id="watch_canary", step="watch", **to_production, **APPROVED)
    deploy_production = ScoringStepOperator(task_id="deploy_production", step="deploy", **to_production, **APPROVED)
    verify_production = ScoringStepOperator(task_id="verify_production", step="verify", **to_production, **APPROVED)
    restore_production = ScoringStepOperator(
        task_id="restore_production",
        step="restore",
        trigger_rule="one_failed",
        pre_execute=skip_unless_approved,
        **to_production,
        **running(f"{CANDIDATE}['production']"),
    )
    rejected = record_rejection(candidate, await_approval.output)
    restore_staging = ScoringStepOperator(
        task_id="restore_staging", step="restore", **to_staging, **running("ti.xcom_pull('record_rejection')")
    )

    candidate >> build_image >> deploy_staging >> verify_staging >> evidence >> await_approval
    await_approval >> approved >> deploy_canary >> watch_canary >> deploy_production >> verify_production
    verify_production >> promote(candidate, approved)
    [deploy_canary, watch_canary, deploy_production, verify_production] >> restore_production
    await_approval >> rejected >> restore_staging >> record_staging_restored(rejected)


attrition_release()
