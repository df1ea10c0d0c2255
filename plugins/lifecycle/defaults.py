"""What every DAG of this project shares: owner, retries, tags, the failure callback."""

import logging
from datetime import datetime, timedelta
from typing import Any

from lifecycle import settings
from lifecycle.hooks import airflow_api

log = logging.getLogger(__name__)

START_DATE = datetime(2026, 1, 1)

TAG_TRAINING = "attrition:training"
TAG_RELEASE = "attrition:release"
TAG_RETRAINING = "attrition:retraining"
TAGS = (TAG_TRAINING, TAG_RELEASE, TAG_RETRAINING)


def notify_failure(context: Any) -> None:
    """The one failure callback: DAG, task, run, exception and log link in one message, and the run's note."""
    instance = context["ti"]
    base = settings.load().airflow_url
    link = f"{base}/dags/{instance.dag_id}/runs/{instance.run_id}/tasks/{instance.task_id}"
    reason = str(context.get("exception") or "no exception was given").strip()
    log.error(
        "%s.%s failed in run %s: %s\nLog: %s",
        instance.dag_id,
        instance.task_id,
        instance.run_id,
        reason,
        link,
    )
    airflow_api.set_run_note(instance.dag_id, instance.run_id, f"{instance.task_id} failed: {reason[:800]}")


DEFAULT_ARGS: dict[str, Any] = {
    "owner": "mlops",
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "execution_timeout": timedelta(hours=2),
    "on_failure_callback": notify_failure,
}
