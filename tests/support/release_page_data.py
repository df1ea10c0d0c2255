"""A registry with a past, for the tests of the page Releases: written through MLflow's client, as the DAGs do."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import msgspec

from lifecycle import settings
from lifecycle.approval_keys import KeyRing
from lifecycle.evidence import cost
from lifecycle.evidence import document as evidence
from lifecycle.evidence.cost import Measured
from lifecycle.evidence.document import Decision
from lifecycle.evidence.known_faults import Scan
from lifecycle.hooks import registry
from lifecycle.image_reference import ImageReference
from lifecycle.settings import Prices
from tests.support.airflow import USE_CASE
from training.registry import tags
from training.signing.keys import Signer
from training.use_case import load

EVALUATION = {
    "titles": {
        "roc_auc": "ROC AUC",
        "pr_auc": "PR AUC (average precision)",
        "brier": "Brier score",
        "calibration_error": "Expected calibration error",
        "recall_top_20": "Leavers among the 20% with the highest risk",
    },
    "challenger": {
        "roc_auc": {"value": 0.861, "low": 0.822, "high": 0.897},
        "pr_auc": {"value": 0.642, "low": 0.561, "high": 0.718},
        "brier": {"value": 0.094, "low": 0.083, "high": 0.106},
        "calibration_error": {"value": 0.031, "low": 0.019, "high": 0.052},
        "recall_top_20": {"value": 0.701, "low": 0.628, "high": 0.774},
    },
    "champion": {
        "roc_auc": {"value": 0.847, "low": 0.806, "high": 0.884},
        "brier": {"value": 0.099, "low": 0.087, "high": 0.112},
    },
    "comparison": {"champion_version": "3"},
    "data": {"source": "employees.csv", "digest": "d1", "rows": 1500, "original_rows": 1470, "labelled_rows": 30},
    "plain": {"metrics": {"roc_auc": {"value": 0.83, "low": 0.79, "high": 0.87}}, "comparison": {}},
    "fairness": {
        "largest_gaps": {
            name: {"attribute": "Age", "value": 0.38, "low": 0.2, "high": 0.55}
            for name in ("selection_rate", "true_positive_rate", "calibration")
        }
    },
    "thresholds": [
        {"title": "ROC AUC", "kind": "minimum", "value": 0.861, "limit": 0.7, "passed": True, "note": ""},
        {
            "title": "Fairness gap",
            "kind": "maximum",
            "value": 0.38,
            "limit": 0.35,
            "passed": True,
            "note": "Age, 95% interval 0.20 to 0.55",
        },
        {"title": "Latency in ms", "kind": "maximum", "value": 7.2, "limit": 5.0, "passed": False, "note": ""},
    ],
    "verdict": "passed",
    "reasons": ["ROC AUC is 0.014 (0.002 to 0.027) above the champion's"],
}
START = datetime(2026, 10, 1, 9, 30, tzinfo=UTC)
_NEW = KeyRing.new()
RING = KeyRing(_NEW.private, (msgspec.structs.replace(_NEW.public[0], since=START.date()),))
"""Signs the decisions."""


def train(client, experiment, use_case=USE_CASE, *, alias=tags.CHALLENGER):
    """Register a version as the training job does."""
    name = registry.model_name(use_case)
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, json.dumps(EVALUATION), tags.EVALUATION_FILE)
    client.set_terminated(run.info.run_id)
    version = client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_model_version_tag(name, version.version, tags.VERDICT, "passed")
    client.set_registered_model_alias(name, alias, version.version)
    return registry.resolve(use_case, version.version)


def release(version, number, use_case=USE_CASE, *, decision=None, note="", signed=True):
    """Write the evidence of a release of ``version``, decided or not."""
    asked = START + timedelta(days=7 * number)
    image = ImageReference("registry.example.com/scoring", f"sha256:{hashlib.sha256(bytes([number])).hexdigest()}")
    document = evidence.Evidence(
        release=evidence.Release(
            key=f"release-{number}",
            dag_id=load(use_case).release_dag,
            run_id=f"manual__{number}",
            requested_by="omar",
            requested_at=asked.isoformat(),
            note=note,
        ),
        model=evidence.Model(
            use_case=use_case,
            name=version.name,
            version=version.version,
            training_run_id=version.run_id,
            data_digest="sha256:d1",
            git_revision="abc1234",
            verdict="passed",
        ),
        evaluation=EVALUATION,
        image=evidence.Image(
            reference=str(image),
            sbom_digest="sha256:ee",
            scan=Scan(packages=24, advisories="2026-11-20"),
            signed_by=evidence.Signed(bundle=Signer("training", "ab" * 32), image=Signer("builds", "cd" * 32)),
        ),
        staging_report={"checks": []},
        cost=cost.count([Measured("build_image", "build", 90.0)], Prices(currency="EUR", build_minute=0.02)),
    )
    if decision:
        approved, by, comment = decision
        decision = Decision(approved, by, (asked + timedelta(hours=2)).isoformat(), comment)
        document = (
            evidence.decided(document, decision) if signed else msgspec.structs.replace(document, decision=decision)
        )
    evidence.store(document)
    registry.mark_staging(use_case, version.version)  # now; the tag below says when that was in this past
    registry.set_tags(
        version,
        {
            tags.IMAGE: document.image.reference,
            tags.STAGED_AT: asked.isoformat(),
            **(
                {
                    tags.APPROVAL: "approved" if document.decision.approved else "rejected",
                    tags.APPROVED_BY: document.decision.decided_by if document.decision.approved else "",
                }
                if document.decision
                else {}
            ),
        },
    )
    return document


def nights(client, use_case=USE_CASE, count=30):
    """The runs of the nightly DAG: quiet weeks, then drift that grows until it is confirmed."""
    experiment = client.create_experiment(registry.monitoring_experiment(use_case))
    for index in range(count):
        drifted = max(0, index - 22)
        day = (START + timedelta(days=index)).date().isoformat()
        verdict = "drifted" if drifted else "quiet"
        note = f"{day}: {verdict}: {drifted} of 34 fields drifted, 412 records"
        run = client.create_run(
            experiment,
            tags={
                tags.WINDOW: day,
                tags.NOTE: note,
                tags.VERDICT: verdict,
                tags.CONFIRMED: "Age" if index > 26 else "",
            },
            start_time=int((START + timedelta(days=index)).timestamp() * 1000),
        )
        client.log_metric(run.info.run_id, tags.DRIFTED_FIELDS, drifted)


def past(client):
    """A rejected release, one that replaced another in production, and one that waits at its gate."""
    name = registry.model_name(USE_CASE)
    client.create_registered_model(name)
    experiment = client.create_experiment(settings.load().of(USE_CASE).experiment)
    first, second, third, fourth = (train(client, experiment) for _ in range(4))
    release(first, 1, decision=(True, "rita", "first release: as good as the spreadsheet"), signed=False)
    registry.promote(USE_CASE, first, registry.resolve(USE_CASE, first.version).image)
    release(second, 2, decision=(False, "rita", "recall of the sales team is worse <script>alert(1)</script>"))
    release(third, 3, decision=(True, "hana", "fairness gap accepted until the autumn data"))
    registry.promote(USE_CASE, third, registry.resolve(USE_CASE, third.version).image)
    release(fourth, 4, note="autumn data")
    client.set_registered_model_alias(name, tags.CHALLENGER, fourth.version)
    nights(client)
