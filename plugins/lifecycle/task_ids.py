"""Ids of tasks that other tasks, the page *Model releases* or a link speak of."""

GATHER_EVIDENCE = "gather_evidence"
AWAIT_APPROVAL = "await_approval"
RECORD_APPROVAL = "record_approval"
RECORD_REJECTION = "record_rejection"
RESTORE_PRODUCTION = "restore_production"
PROMOTE = "promote"
