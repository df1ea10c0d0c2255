"""
# Release a model version: $title

Takes one registered version to production: builds its image, deploys and verifies it in staging, previews on
Databricks which records it would rank otherwise, asks a person, lets a canary take a share of production's traffic,
rolls out, verifies, and moves the registry's alias `champion`. Starts by hand, or when `$train_dag` updates the asset
`$version_asset`.

**Params.** `version`: registry version, empty for the `challenger`, whichever version the asset announced;
`note`: shown to the approver. Example: `{"version": 7, "note": "spring data"}`.

**Trying.** Where `qa` of the settings is `aci`, `try_image` runs the image once in a group of Azure Container Instances
before it comes to staging. Its answers, keys and speed are verified there, and the group is removed at the end.

**Gate.** `await_approval` waits on *Browse > Required Actions* for one of the approvers in the settings.
Without an answer in time the release is rejected. A rejection skips production, puts the champion's image back in
staging, tags the version `rejected` and is not a failure: the run ends green, with `record_rejection` run and its
note saying who and why. `record_approval` reads the answer from Airflow's own record, holds it to the approvers listed
now, and signs it; production refuses an image whose approval is not signed. If an earlier release got an approval
for the same image, that approval stays valid after a rejection. An answer of somebody who is not listed is not taken,
and the question stands again. Where `requester_may_approve` is false, neither is an approval of the person behind the
release: who triggered it, or the training or the nightly run that led to it. Where Airflow cannot say who that was,
because an asset event was posted to its API, nobody may answer: trigger the release under your own name. An answer
counts whenever it arrives: where Airflow loses it (within seconds of the question), the next try goes on with it, and
nobody has to clear anything. The time limit counts from the first question. Where what is approved (version, image,
evidence) is no longer what was asked about, because a task before the gate was cleared and found something else, the
gate fails: trigger a new run.

**Beside a rollback.** Only one of them changes production. `record_approval` fails, before production is
touched, while `$rollback_dag` runs and where production is no longer what the gate showed: release again.

**Safe to repeat.** Every task: image, pods and aliases are looked up before they are made. A task of an old run that
is cleared changes nothing in production once another run has.

**Signatures.** A bundle that nobody has signed is not built, and an image that nobody has signed runs nowhere; what is
built is signed. Where what production runs is not signed, and could not be put back, the release ends at its
beginning. The messages say what to do.

**If it fails.** Before `record_approval` nothing touches production: read the red task's log, clear it.
`preview_impact` scores the newest batch, or the newest closed night's records, with challenger and champion, at most
20,000 of them; where there are none, or nothing runs in production, the gate says so.
After it, `restore_production` puts the previous image back, aliases stay as they were, staging is left
for study, and the run's note has the reason. If `restore_production` itself fails, production needs a
person at once: run `$rollback_dag`. So does a run that somebody has marked as failed, or that was over its time limit,
while its canary ran: Airflow starts no task of it any more, and the canary answers its share until `$rollback_dag` or
another release ends it.

**Does not guard against** a model that is wrong in a way that neither the evaluation nor the canary sees.
"""

from typing import Any, cast

from airflow.sdk import DAG

from lifecycle import settings
from lifecycle.assets import production_of, version_of
from lifecycle.defaults import RELEASE, START_DATE, default_args, release_timeout, shown, stage
from lifecycle.operators.build_image import BuildImageOperator
from lifecycle.operators.preview_run import PreviewRunOperator
from lifecycle.operators.release_step import ScoringStepOperator
from lifecycle.params import optional, version
from lifecycle.sensors.approval import gate
from lifecycle.task_ids import RECORD_APPROVAL, RESTORE_PRODUCTION, TRY_IMAGE
from lifecycle.tasks.release import (
    gather_evidence,
    promote,
    record_approval,
    record_rejection,
    record_staging_restored,
    resolve_candidate,
    skip_unless_approved,
    tell_put_back,
)
from lifecycle.use_cases import load_all
from training.use_case import UseCase

FOUND = "ti.xcom_pull('resolve_candidate')['production']"
FOUND_IN_PRODUCTION: dict[str, Any] = {key: f"{{{{ {FOUND}['{key}'] }}}}" for key in ("image", "version")}
"""What production ran before this release: templates, because an XComArg does not reach into an inner dictionary."""
APPROVED = f"{{{{ ti.xcom_pull('{RECORD_APPROVAL}') }}}}"
"""The image that this release brings into production: a template, because an XComArg would draw an arrow."""


def release(use_case: UseCase) -> None:
    """The release DAG of one use case."""
    with DAG(
        use_case.release_dag,
        schedule=[version_of(use_case)],
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=release_timeout(),
        tags=[use_case.name, RELEASE],
        default_args=default_args(use_case),
        **shown(__doc__, use_case),
        params={
            "version": version("the challenger"),
            "note": optional(
                "string", "Note", "The approver reads it at the gate.", otherwise="no note", maxLength=500
            ),
        },
    ):
        steps(use_case)


def steps(use_case: UseCase) -> None:
    """The tasks, and in which order they run."""
    name = use_case.name
    to_staging: dict[str, Any] = {"use_case": name, "target": "staging"}
    to_production: dict[str, Any] = {"use_case": name, "target": "production"}

    with stage("build"):
        candidate: Any = resolve_candidate(name)
        build_image = BuildImageOperator(task_id="build_image", use_case=name, model_version=candidate["version"])
    built: Any = build_image.output
    image: dict[str, Any] = {"image": built["image"], "version": candidate["version"]}
    with stage("staging"):
        deploy_staging = ScoringStepOperator(task_id="deploy_staging", step="deploy", **to_staging, **image)
        verify_staging = ScoringStepOperator(task_id="verify_staging", step="verify", **to_staging, **image)
        tried = _tried(build_image, deploy_staging, to_staging, image) if settings.load().release.qa else None
    with stage("approval"):
        preview = PreviewRunOperator(task_id="preview_impact", use_case=name, candidate=candidate)
        verified, previewed = cast(Any, verify_staging.output), cast(Any, preview.output)
        evidence: Any = gather_evidence(name, candidate, built, verified, previewed["run_key"], tried)
        await_approval = gate(name, candidate, evidence)
        approved: Any = record_approval(name, candidate)
        rejected: Any = record_rejection(name, candidate)
        ran_before: dict[str, Any] = {key: rejected[key] for key in ("image", "version")}
        restore_staging = ScoringStepOperator(task_id="restore_staging", step="restore", **to_staging, **ran_before)
        await_approval >> rejected >> restore_staging >> record_staging_restored(name, rejected)
    to_production_if_approved = {**to_production, **image, "approved_image": approved}
    with stage("production"):
        in_place_of = {**to_production_if_approved, "replaces": FOUND_IN_PRODUCTION["image"]}
        deploy_canary = ScoringStepOperator(task_id="deploy_canary", step="canary", **in_place_of)
        watch_canary = ScoringStepOperator(task_id="watch_canary", step="watch", **to_production_if_approved)
        deploy_production = ScoringStepOperator(task_id="deploy_production", step="deploy", **in_place_of)
        verify_production = ScoringStepOperator(task_id="verify_production", step="verify", **to_production_if_approved)
        restore_production = ScoringStepOperator(
            task_id=RESTORE_PRODUCTION,
            step="restore",
            trigger_rule="one_failed",
            pre_execute=skip_unless_approved,
            on_success_callback=tell_put_back,
            replaces=APPROVED,
            **to_production,
            **FOUND_IN_PRODUCTION,
        )
        promoted = promote.override(outlets=[production_of(use_case)])(name, candidate, approved)

    candidate >> build_image >> deploy_staging >> verify_staging >> evidence >> await_approval
    await_approval >> approved >> deploy_canary >> watch_canary >> deploy_production >> verify_production >> promoted
    [deploy_canary, watch_canary, deploy_production, verify_production] >> restore_production


def _tried(build_image: Any, deploy_staging: Any, to_staging: dict[str, Any], image: dict[str, Any]) -> Any:
    """The report of the image's trial before it comes to staging."""
    try_image = ScoringStepOperator(task_id=TRY_IMAGE, step="try", **to_staging, **image)
    build_image >> try_image >> deploy_staging
    return try_image.output


for found in load_all()[0]:
    if found.online:
        release(found)
