"""What is known by name of tasks: ids that other tasks, the page *Releases* or a link speak of, XComs, states."""

TRAIN_AND_REGISTER = "train_and_register"
ANNOUNCE_MODEL_VERSION = "announce_model_version"
CURATE_AND_JUDGE = "curate_and_judge"
DECIDE = "decide"
TRY_IMAGE = "try_image"
GATHER_EVIDENCE = "gather_evidence"
AWAIT_APPROVAL = "await_approval"
RECORD_APPROVAL = "record_approval"
RECORD_REJECTION = "record_rejection"
RESTORE_PRODUCTION = "restore_production"
PROMOTE = "promote"

JOB_SECONDS = "job_seconds"
"""XCom of a task whose Databricks job has succeeded: seconds by step, of all runs that it took."""

UNFINISHED = (
    "none", "scheduled", "queued", "running", "restarting", "up_for_retry", "up_for_reschedule", "deferred",
    "awaiting_input",
)  # fmt: skip
"""States of a task that has not ended, as Airflow's API spells them. An unanswered question stands in all of them:
its task leaves ``awaiting_input`` now and then to look whether it was answered."""
