"""What the steps of a release have in common, wherever they run."""

from pathlib import Path
from typing import Any, Literal

import msgspec
from airflow.sdk.exceptions import AirflowFailException

from lifecycle import settings
from lifecycle.image_reference import ImageReference
from lifecycle.signing import check
from training import use_case as definitions
from training.use_case import Target

Step = Literal["try", "deploy", "canary", "watch", "verify", "restore", "stop", "resume"]
SWITCH_SECONDS = 120
"""For how long servers may go on as before when the stop switch has changed: a cluster takes a minute to mount it."""
VERIFY_SECONDS = 5.0
"""Length of the load run of ``verify``."""
SETTLE_SECONDS = 20.0
"""For how long after a rollout an old version may still answer."""
VERIFY_MAX_P95_MS = 1000.0
"""Generous: staging is small and shared. The canary watch has the service's own limit."""


class StepError(RuntimeError):
    """Raised when a step did not succeed; the message is the real cause, from where it happened."""


class Work(msgspec.Struct, frozen=True):
    """One step to do."""

    use_case: str
    step: Step
    target: Target
    image: ImageReference | None
    """``None`` only for a ``restore`` to nothing, and for ``stop`` and ``resume``."""
    version: str
    key: str
    """``lifecycle.idempotency.action_key``: names pods and generations."""
    said: str = ""
    """What the stop switch is to say (``lifecycle.hooks.stop_switch``); of ``stop`` and ``resume``."""
    trace_parent: str = ""
    """``lifecycle.trace``: what the step's own calls carry as header ``traceparent``."""


def verify_arguments(work: Work, url: str, bundle: Path, report: Path) -> list[str]:
    """The verification client's command line, after ``python``, for ``verify`` and ``watch``."""
    release = settings.load().release
    watch = work.step == "watch"
    return [
        "-m", "serving.verify", "watch" if watch else "server", url,
        "--bundle", str(bundle),
        "--version", work.version,
        "--seconds", f"{release.canary_seconds if watch else VERIFY_SECONDS:g}",
        "--max-p95-ms", f"{release.canary_max_p95_ms if watch else VERIFY_MAX_P95_MS:g}",
        "--max-error-rate", f"{release.canary_max_error_rate if watch else 0:g}",
        "--settle-seconds", f"{SETTLE_SECONDS:g}",
        "--report", str(report),
    ]  # fmt: skip


def failed_checks(report: dict[str, Any]) -> str:
    """The checks of a verification report that did not pass, one line each."""
    return "\n".join(f"{check['name']}: {check['detail']}" for check in report["checks"] if not check["passed"])


def told(report: dict[str, Any]) -> str:
    """What came of a step, in one line for its task's log."""
    if "passed" in report:
        passed = sum(check["passed"] for check in report["checks"])
        figures = [f"{name} {report[name]}" for name in ("requests", "errors", "p50_ms", "p95_ms") if name in report]
        return ", ".join([f"{passed} of {len(report['checks'])} checks passed", *figures])
    if "image" not in report:
        return "done"
    before = report.get("previous") or report.get("beside")
    runs = f"version {report['version']} runs since {report['since']}" if report["image"] else "nothing runs there now"
    where = "beside" if report.get("beside") else "in the place of"
    return f"{runs}, {where} version {before['version']}" if before else runs


def refuse_unsigned(work: Work, running: ImageReference | None) -> None:
    """Run no image that nobody has signed as that of this version; raises ``AirflowFailException``.

    What runs there already may be put back, and a service may be stopped and resumed whatever it is: neither brings
    anything in.
    """
    if work.image is None or work.step in ("stop", "resume") or (work.step == "restore" and work.image == running):
        return
    try:
        check.image(work.use_case, work.image, work.version)
    except check.UnsignedError as error:
        raise AirflowFailException(f"{work.target} refuses {work.image}: {error}") from error


def refuse_overtaken(work: Work, replaces: ImageReference | None, running: ImageReference | None) -> None:
    """Change nothing where something came to run since the DAG run looked; raises ``AirflowFailException``.

    Otherwise a task of an old run that somebody clears would deploy its image over a newer one, or put back what ran
    before a release of long ago. Where nothing runs, or nobody can tell what, there is nothing to keep.

    :param replaces: what the target is to run beside ``work.image``, ``None`` for nothing.
    """
    if running in (None, work.image, replaces):
        return
    raise AirflowFailException(
        f"{work.target} runs {running} by now, and this run knows of {work.image or 'nothing'} and "
        f"{replaces or 'nothing'} there: another run came after it, so nothing is changed. {another_run(work.use_case)}"
    )


def another_run(use_case: str) -> str:
    """What to do where another run has changed production since this one looked."""
    definition = definitions.load(use_case)
    return f"Trigger a new run of {definition.release_dag} or {definition.rollback_dag}"


def refuse_unapproved(work: Work, approved: ImageReference | None, running: ImageReference | None) -> None:
    """Let nothing into production but an image that a person approved; raises ``AirflowFailException``.

    Putting back what runs there already changes nothing and needs no approval; neither does removing it.
    """
    if work.target != "production" or work.step in ("watch", "verify", "stop", "resume"):
        return
    if work.step == "restore" and work.image in (None, running):
        return
    release_dag = definitions.load(work.use_case).release_dag
    if work.image is None or (work.step != "restore" and approved != work.image):
        raise AirflowFailException(
            f"production refuses {work.image or 'no image'}: the approval is for {approved or 'no image'}. "
            f"Release it through {release_dag} and its gate"
        )
    from lifecycle.evidence import document as evidence  # imported here: mlflow takes seconds
    from lifecycle.hooks import registry

    try:
        evidence.read_approved(work.use_case, registry.resolve(work.use_case, work.version), work.image)
    except registry.RegistryError as error:
        raise AirflowFailException(f"production refuses {work.image}: {error}") from error
