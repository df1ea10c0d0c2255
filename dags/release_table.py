"""
# Release a model version that writes a table: $title

Takes one registered version to production where no server answers requests: gathers the evidence, asks a person, and
moves the registry's aliases. Starts by hand, or when `$train_dag` updates the asset `$version_asset`.

What is approved is the digest of the version's bundle and of the code that this run has published: the scoring runs
that code with that bundle, and nothing else, however the project's files change meanwhile.

**Params.** `version`: registry version, empty for the `challenger`, whichever version the asset announced;
`note`: shown to the approver. Example: `{"version": 7, "note": "spring data"}`.

**Gate.** `await_approval` waits on *Browse > Required Actions* for one of the approvers in the settings, as in any
release: without an answer in time it is rejected, a rejection is a decision and not a failure, and only the signed
approval of this digest counts.

**After it.** Where a version of forecasts is in production, the new one gets the alias `beside`: the next run of
`$score_dag` scores with both, compares them, and lets the new one take over. Otherwise it is the champion at once.

**Beside a rollback.** Only one of them changes production: `record_approval` fails while `$rollback_dag` runs, and
where production is no longer what the gate showed. Release again.

**Safe to repeat.** Every task: code is published under its hash, and aliases are looked up before they are moved. A
task of an old run that is cleared moves no alias once another run has, and records nothing above a later approval.

**If it fails.** Nothing has changed in production before `promote`: read the red task's log, clear it.

**Does not guard against** a model that is wrong in a way that neither the evaluation nor the comparison sees.
"""

from typing import Any

from airflow.sdk import DAG

from lifecycle.assets import production_of, version_of
from lifecycle.defaults import RELEASE, START_DATE, default_args, release_timeout, shown
from lifecycle.params import optional, version
from lifecycle.sensors.approval import gate
from lifecycle.task_ids import GATHER_EVIDENCE, PROMOTE
from lifecycle.tasks.release import (
    bring_in,
    gather_evidence_of_model,
    record_approval,
    record_rejection,
    resolve_candidate,
)
from lifecycle.tasks.training import publish_code
from lifecycle.use_cases import load_all
from training.use_case import UseCase


def release_table(use_case: UseCase) -> None:
    """The release DAG of one use case without a server."""
    name = use_case.name
    with DAG(
        use_case.release_dag,
        schedule=[version_of(use_case)],
        start_date=START_DATE,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=release_timeout(),
        tags=[name, RELEASE],
        default_args=default_args(use_case),
        **shown(__doc__, use_case),
        params={
            "version": version("the challenger"),
            "note": optional(
                "string", "Note", "The approver reads it at the gate.", otherwise="no note", maxLength=500
            ),
        },
    ):
        candidate: Any = resolve_candidate(name)
        code: Any = publish_code(name)
        evidence: Any = gather_evidence_of_model.override(task_id=GATHER_EVIDENCE)(name, candidate, code)
        await_approval = gate(name, candidate, evidence)
        approved: Any = record_approval(name, candidate)
        to_production = bring_in.override(task_id=PROMOTE, outlets=[production_of(use_case)])
        await_approval >> approved >> to_production(name, candidate, approved)
        await_approval >> record_rejection(name, candidate)


for found in load_all()[0]:
    if not found.online:
        release_table(found)
