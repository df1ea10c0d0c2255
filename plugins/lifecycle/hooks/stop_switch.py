"""The stop switch of a target: whether its servers are to score nothing, who said so, and why.

On Kubernetes it is a ConfigMap that every scoring pod mounts, on the scoring host of this machine a file of the slot.
Its content is JSON of the shape ``Stop``; a person in a hurry may write the reason alone.
"""

from datetime import UTC, datetime

import msgspec
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException

from lifecycle.hooks import targets
from lifecycle.hooks.slot import Slot
from serving.scoring.described import described
from training import use_case as definitions
from training.use_case import Target

CONFIG_MAP, KEY = "scoring-stop", "stop.json"


@described
class Stop(msgspec.Struct, frozen=True):
    """What the switch says."""

    reason: str = "no reason was given"
    by: str = "somebody"
    since: str = "an unknown time"
    """RFC 3339, UTC."""

    @property
    def moment(self) -> datetime | None:
        """When it was asked for; ``None`` where a person has written the switch and did not say."""
        try:
            found = datetime.fromisoformat(self.since)
        except ValueError:
            return None
        return found if found.tzinfo else None

    def __str__(self) -> str:
        """When, who and why, as people read it."""
        # Whoever wrote the switch by hand may have left the time out.
        when = f"{self.moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if self.moment else self.since
        return f"{when} by {self.by}: {self.reason}"


def encode(stop: Stop) -> str:
    """The content of the file or ConfigMap."""
    return msgspec.json.encode(stop).decode()


def stopped(use_case: str, target: Target) -> Stop | None:
    """What the switch of a target says; ``None`` where it is not set, or no server could obey it."""
    if not definitions.load(use_case).online:
        return None
    connection = BaseHook.get_connection(targets.CONNECTIONS[target])
    if connection.conn_type == "gunicorn":
        content = Slot(connection, use_case, target).stop_text()
    else:
        content = _config_map(connection.conn_id, targets.settings_of(use_case, target).namespace)
    return None if content is None else _parsed(content)


def refuse_while_stopped(use_case: str) -> None:
    """Raises ``AirflowFailException`` that says who stopped production, when and why."""
    if stop := stopped(use_case, "production"):
        raise AirflowFailException(
            f"production is stopped since {stop}. "
            f"Nothing is released or rolled back meanwhile: run {definitions.load(use_case).resume_dag} first"
        )


def refuse_older_resume(use_case: str, target: Target, said: str) -> None:
    """Take back no stop that is younger than the wish to resume; raises ``AirflowFailException``.

    Somebody clears a task of an old run, or a run has waited since before the stop: who asked for it did not know.

    :param said: the wish, as ``encode`` writes it.
    """
    stop, wish = stopped(use_case, target), _parsed(said)
    if stop is None or stop.moment is None or wish.moment is None or stop.moment <= wish.moment:
        return
    raise AirflowFailException(
        f"{target} was stopped at {stop.since} by {stop.by} ({stop.reason}), after {wish.by} had asked to resume "
        f"({wish.since}): it stays stopped. Trigger a new run of {definitions.load(use_case).resume_dag}"
    )


def _parsed(content: str) -> Stop:
    try:
        return msgspec.json.decode(content, type=Stop)
    except msgspec.MsgspecError:
        return Stop(reason=content.strip() or Stop().reason)


def _config_map(conn_id: str, namespace: str) -> str | None:
    # Imported here: the Kubernetes client takes seconds, and DAG files import this module.
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
    from kubernetes.client.exceptions import ApiException

    try:
        found = KubernetesHook(conn_id=conn_id).core_v1_client.read_namespaced_config_map(CONFIG_MAP, namespace)
    except ApiException as error:
        if error.status == 404:  # the namespace is older than the switch, or not there yet
            return None
        raise
    content: str | None = (found.data or {}).get(KEY)
    return content
