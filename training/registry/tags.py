"""Names that the training job, the DAGs and the pages share in MLflow.

Tags are spelled with ``_``: Unity Catalog refuses the characters ``. , - = / :`` in the name of a model version's tag.
"""

from collections.abc import Mapping

ABOUT = "about"
"""On runs and model versions, for people: what became of it, in a line; written first, since MLflow lists it so."""

RUN_KEY = "lifecycle_run_key"
"""On runs and model versions: the key of the action that made them (``lifecycle.idempotency.action_key``)."""
DATA_DIGEST = "lifecycle_data_digest"
"""On runs and model versions: ``sha256`` of the training data."""
TRAINING_RUN_ID = "lifecycle_training_run_id"
"""On model versions: the training run, as a tag that people can search."""
VERDICT = "lifecycle_verdict"
"""``passed``, ``failed`` (runs only: nothing is registered) or ``forced``."""
GIT_REVISION = "lifecycle_git_revision"
"""On runs and model versions: the commit of the code that trained."""
CODE_HASH = "lifecycle_code_hash"
"""On runs and model versions: hash of the published code."""

BUNDLE_SIGNATURE_FILE = "signatures/bundle.json"
"""Artifact of the training run: the signature of the bundle that the registered version holds."""

JOB_SECONDS = "lifecycle_job_seconds"
"""On model versions: seconds of the Databricks job that trained it, of all its runs, as JSON text by step."""
TRACE_ID = "lifecycle_trace_id"
"""On runs: the trace of Airflow's run that started the job, 32 hexadecimal digits."""

IMAGE = "lifecycle_image"
"""On model versions: the image that was built last, and deployed to staging, by its content."""
APPROVED_IMAGE = "lifecycle_approved_image"
"""On model versions: the image that was approved last, and a rollback puts back."""
APPROVAL_OF = "lifecycle_approval_of_"
"""On model versions, followed by an image's digest: its approval, as digest and artifact path of the evidence, which
holds the signature. Production takes no image without one. A decision about a later release does not change it."""
APPROVAL = "lifecycle_approval"
"""On model versions: ``approved`` or ``rejected``, as the last release of it was answered."""
APPROVED_BY = "lifecycle_approved_by"
"""On model versions: who gave the last approval."""
EVIDENCE = "lifecycle_evidence"
"""On model versions: artifact path of the last release's evidence document, within the training run."""
EVIDENCE_DIGEST = "lifecycle_evidence_digest"
"""On model versions: digest of that document as it was stored last."""
RELEASED_AT = "lifecycle_released_at"
"""On model versions: when it came into production last, UTC."""
REPLACED = "lifecycle_replaced"
"""On model versions: the version that it replaced in production when it came there last, where a rollback goes; empty
where production ran none."""
STOPPED = "lifecycle_stopped"
"""On model versions: since when, by whom and why it scores nothing in production; empty where it has been resumed."""
STAGED_AT = "lifecycle_staged_at"
"""On model versions: when it came into staging last, or ran beside the champion first, UTC."""

WINDOW = "lifecycle_window"
"""On the nightly runs in experiment ``<experiment>-monitoring``: the night that was judged, an ISO date."""
NOTE = "lifecycle_note"
"""On the same runs: the verdict in one line. Its status is ``VERDICT``: ``quiet``, ``drifted``, ``no records``..."""
CONFIRMED = "lifecycle_confirmed"
"""On the same runs: what has drifted for several nights in a row, joined by commas."""
FIGURES = "lifecycle_figures"
"""On the same runs, where a quantity is forecast: what people read of the period's quality, as JSON text by title."""
ALERTS = "lifecycle_alerts"
"""On the same runs: what people were alerted of about the night, as ``kind: text``, joined by ``; ``."""
COST = "lifecycle_cost"
"""On the same runs, the last of those closed together: what closing them has used and costs, in a line."""
DRIFTED_FIELDS = "drifted_fields"
"""Metric of the same runs: how many fields drifted."""

CHALLENGER = "challenger"
"""Alias of the version that training registered last and that nothing has released yet."""
CHAMPION = "champion"
"""Alias of the version that runs in production."""
PREVIOUS_CHAMPION = "previous_champion"
"""Alias of the version that the champion has replaced: where a rollback goes."""
BESIDE = "beside"
"""Alias of a released version that runs beside the champion and has not taken over yet; no server answers for it."""
STAGING = "staging"
"""Alias of the version that runs in staging; ``champion`` is the one that runs in production."""

EVALUATION_FILE = "evaluation.json"
"""Artifact of a training run: metrics, comparison, thresholds, verdict."""
SNAPSHOT_FILE = "data/snapshot.parquet"
"""Artifact of a training run: the checked data that it was trained on."""
PLAN_FILE = "data/plan.parquet"
"""Artifact of a training run of forecasts: the plan that it was trained with."""
SWITCH_FOLDER = "stops"
"""Folder of artifacts of a training run: who stopped or resumed its version in production, when and why."""
PREVIEW_FOLDER = "previews"
"""Folder of artifacts of a training run: what releases of its version would have changed."""
PLOTS_FOLDER = "plots"
"""Folder of artifacts of a training run: what the evaluation has drawn."""
MODEL_CARD_FILE = "model_card.md"
"""Artifact of a training run: what the model is, for people."""


def about(found: Mapping[str, str]) -> str:
    """What the tags of a model version say of it, in at most 500 characters; empty where they say nothing."""
    decision, by = found.get(APPROVAL), found.get(APPROVED_BY)
    said = {
        "evaluation": found.get(VERDICT),
        "release": f"{decision} by {by}" if decision == "approved" and by else decision,
        "came into production": found.get(RELEASED_AT, "")[:16].replace("T", " "),
        "stopped": found.get(STOPPED),
    }
    return "; ".join(f"{what} {text}" for what, text in said.items() if text)[:500]
