"""The tasks around forecasts: which versions a date is forecast with, what came of it, and how a week was judged."""

from datetime import date
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.sdk import Asset, Metadata, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from lifecycle import released_model, settings
from lifecycle.alerts import Alert, send_once
from lifecycle.evidence import cost
from lifecycle.hooks import airflow_api, registry
from lifecycle.tasks import metering
from lifecycle.tasks.retraining import once_a_run, tables_path
from lifecycle.tasks.scoring import day_of
from training import use_case as definitions
from training.registry import tags

if TYPE_CHECKING:
    from lifecycle.hooks.databricks import WorkspaceHook
    from training.forecasting.cycle import Cycle, Role


def tables_to_forecast(use_case: str, context: Any) -> dict[str, str]:
    """History and plan of a run: ``{"source", "plan"}``; the DAG's params count more than the settings."""
    found, params = settings.load().of(use_case), context["params"]
    source = params.get("input") or found.data
    if not source:
        raise AirflowFailException(
            f"there is no history to forecast from: give the parameter input, or set data in [every_use_case] or "
            f"[use_cases.{use_case}] of the settings file"
        )
    return {"source": source, "plan": found.planned(params.get("plan"))}


def what_to_forecast(use_case: str, context: Any) -> dict[str, Any]:
    """What this DAG run forecasts, and the approved versions that do: ``champion``, and ``beside`` or ``None``."""
    champion = registry.by_alias(use_case, tags.CHAMPION)
    if champion is None:
        raise AirflowFailException(
            f"no version is in production: release one with {definitions.load(use_case).release_dag} first"
        )
    beside = registry.by_alias(use_case, tags.BESIDE)
    return {
        "day": day_of(context),
        **tables_to_forecast(use_case, context),
        "take_over": bool(context["params"].get("take_over")),
        "champion": {
            **msgspec.to_builtins(released_model.approved(use_case, champion)),
            "released_at": registry.released_at(champion),
        },
        "beside": msgspec.to_builtins(released_model.approved(use_case, beside)) if beside else None,
    }


@task
def pin_versions(use_case: str) -> dict[str, Any]:
    """Decide once what this run forecasts, and with which versions. A repeated run finds what it had decided."""
    context: Any = get_current_context()
    pinned: dict[str, Any] = once_a_run(
        tables_path(use_case), context, "pin_versions", "pin", lambda: what_to_forecast(use_case, context)
    )
    return pinned


@task
def order_of(pinned: dict[str, Any], role: "Role") -> dict[str, Any]:
    """What the forecast job is told for one of the versions; skips where there is none in this role."""
    if not (version := pinned[role]):
        raise AirflowSkipException("no version runs beside the one in production")
    given = {name: pinned[name] for name in ("day", "source", "plan", "take_over")}
    chosen = {name: version[name] for name in ("version", "bundle_digest")}
    return {**given, **chosen, "role": role, "until": pinned.get("until", "")}


@task
def approved_code(use_case: str, pinned: dict[str, Any], role: "Role") -> dict[str, str]:
    """Where the code lies that was approved with a version: ``{"path", "code_hash"}``.

    A path never changes its content. Code that the workspace has lost is published again where these files are it.
    """
    from lifecycle.hooks.databricks import WorkspaceHook

    if not (version := pinned[role]):
        raise AirflowSkipException("no version runs beside the one in production")
    return find_code(WorkspaceHook(), use_case, version["code_hash"], version["version"])


def find_code(hook: "WorkspaceHook", use_case: str, code_hash: str, version: str) -> dict[str, str]:
    """The folder of published code with this hash; fails where it is nowhere."""
    from lifecycle.tasks import publish

    root = settings.load().training.code_root
    path = publish.place_of(root, code_hash)
    if hook.exists(f"{path}/{publish.MARKER}"):
        return {"path": path, "code_hash": code_hash}
    definition = definitions.load(use_case)
    if publish.content_hash(publish.code_files(definition)) == code_hash:
        published = publish.publish(hook, definition, root)
        return {"path": published["path"], "code_hash": code_hash}
    raise AirflowFailException(
        f"version {version} was approved with code {code_hash}, which is not at {path} any more and is not what is "
        f"installed here: put the folder back, or release the version again with {definition.release_dag}"
    )


@task
def announce_forecasts(use_case: str, pinned: dict[str, Any]) -> dict[str, Any]:
    """Update the asset with the partition that was replaced, and write the run's note."""
    context: Any = get_current_context()
    cycles = [read_pinned(use_case, pinned, role) for role in ROLES if pinned[role]]
    used = metering.of_batch(context, sum(cycle.rows for cycle in cycles), ("score", "score_beside"))
    notes = [*(cycle.note for cycle in cycles), f"Cost: {cost.sentence(used)}"]
    airflow_api.tell(context, "\n".join(notes))
    standing = next((cycle for cycle in cycles if cycle.took_over), cycles[0])
    refused = [cycle for cycle in cycles if cycle.compared and not cycle.took_over]
    send_once(tables_path(use_case), [Alert(use_case, "beside", cycle.day, cycle.note) for cycle in refused])
    extra = {
        "day": standing.day, "version": standing.version, "rows": standing.rows, "plan_assumed": standing.plan_assumed,
    }  # fmt: skip
    context["outlet_events"][Asset(definitions.load(use_case).scores_asset)].extra = extra
    return extra


ROLES: "tuple[Role, ...]" = ("champion", "beside")


def read_pinned(use_case: str, pinned: dict[str, Any], role: "Role") -> "Cycle":
    """What the job has written for a version of this run; fails where another run has written it."""
    from training.forecasting.cycle import read_cycle

    tables, wanted = tables_path(use_case), pinned[role]
    cycle = read_cycle(tables, date.fromisoformat(pinned["day"]), role)
    if cycle is None or (cycle.version, cycle.bundle_digest) != (wanted["version"], wanted["bundle_digest"]):
        raise AirflowFailException(
            f"the forecasts of {pinned['day']} in {tables} are not those of version {wanted['version']}, although the "
            "job succeeded: do tables and job_tables of the settings file name the same place, or has another run "
            "forecast the same date?"
        )
    return cycle


@task
def take_over(use_case: str, pinned: dict[str, Any]) -> Any:
    """Make the version that ran beside the champion, where its forecasts took over; otherwise it runs beside again.

    Not where another version is the champion by now, or the same one came into production once more: that was later, by
    a rollback or another run. A version that was released meanwhile goes on running beside.
    """
    cycle = read_pinned(use_case, pinned, "beside") if pinned["beside"] else None
    if cycle is None or not cycle.took_over:
        raise AirflowSkipException("the version in production stays" if cycle else "no version runs beside")
    champion, beside = (registry.by_alias(use_case, alias) for alias in (tags.CHAMPION, tags.BESIDE))
    if champion and champion.version != cycle.version:
        _refuse_overtaken(use_case, pinned["champion"], champion, cycle.version)
    version = registry.resolve(use_case, cycle.version)
    bundle, code = pinned["beside"]["bundle_digest"], pinned["beside"]["code_hash"]
    try:
        released_model.check_approved(use_case, cycle.version, bundle, code)
    except registry.RegistryError as error:
        raise AirflowFailException(f"version {cycle.version} takes over nothing: {error}") from error
    reference = released_model.reference(version.name, bundle, code)
    registry.promote(use_case, version, reference)
    if beside and beside.version == version.version:
        registry.end_beside(use_case)
    extra: dict[str, Any] = {"name": version.name, "version": version.version, "run_id": version.run_id}
    extra |= {"image": str(reference)}
    yield Metadata(Asset(definitions.load(use_case).production_asset), extra)


def _refuse_overtaken(use_case: str, compared: dict[str, str], champion: registry.Version, version: str) -> None:
    """Let a version take over from the champion that it was compared with, as it was in production then."""
    definition = definitions.load(use_case)
    if champion.version != compared["version"]:
        raise AirflowFailException(
            f"version {champion.version} is in production by now, and version {version} was compared with version "
            f"{compared['version']}: it takes over nothing. Trigger a new run of {definition.release_dag} to offer it "
            "again"
        )
    since = registry.released_at(champion)
    if since != compared.get("released_at", since):  # a run that had pinned its versions before has not kept it
        raise AirflowFailException(
            f"version {champion.version} was put into production once more at {since}, after this "
            f"run had begun: version {version} takes over nothing. Trigger a new run of {definition.score_dag}, "
            f"which forecasts with what is in production; {definition.release_dag} offers version {version} again"
        )


def what_to_restore(use_case: str, earlier: dict[str, Any]) -> dict[str, Any]:
    """The newest forecasts, to be those of an earlier version again; skips where nothing has been forecast."""
    from training.forecasting.cycle import cycle_days, read_cycle

    tables = tables_path(use_case)
    days = cycle_days(tables)
    newest = read_cycle(tables, days[-1], "champion") if days else None
    if newest is None:
        raise AirflowSkipException("nothing has been forecast yet, so no partition is to be put back")
    version = registry.resolve(use_case, earlier["version"])
    return {
        "day": newest.day,
        "source": newest.source,
        "plan": newest.plan,
        "until": newest.origin,
        "take_over": False,
        "champion": msgspec.to_builtins(released_model.approved(use_case, version)),
        "beside": None,
    }


@task
def pin_former(use_case: str, earlier: dict[str, Any]) -> dict[str, Any]:
    """Decide once which date's forecasts a rollback puts back."""
    context: Any = get_current_context()
    pinned: dict[str, Any] = once_a_run(
        tables_path(use_case), context, "pin_former", "pin", lambda: what_to_restore(use_case, earlier)
    )
    return pinned


@task
def order_of_judging(use_case: str) -> dict[str, Any]:
    """What the job that judges weeks is told."""
    context: Any = get_current_context()

    def decided() -> dict[str, Any]:
        champion = registry.by_alias(use_case, tags.CHAMPION)
        judged = msgspec.to_builtins(released_model.approved(use_case, champion)) if champion else {}
        return {
            **tables_to_forecast(use_case, context),
            "day": day_of(context),
            "version": judged.get("version", ""),
            "bundle_digest": judged.get("bundle_digest", ""),
            "by_hand": bool(context["params"].get("retrain")),
        }

    order: dict[str, Any] = once_a_run(tables_path(use_case), context, "order_of_judging", "pin", decided)
    return order


@task
def decide_weeks(use_case: str, order: dict[str, Any]) -> dict[str, str]:
    """Write the note, send alerts, and return what to train (``{"run_id", "data", "plan", "why"}``), or skip."""
    from training.forecasting.judge import WeekVerdict, verdict_file
    from training.inference_log import layout

    context: Any = get_current_context()
    run, tables = context["dag_run"], tables_path(use_case)
    file = verdict_file(tables, date.fromisoformat(order["day"]))
    content = layout.read_json(file)
    if content is None:
        raise AirflowFailException(
            f"there is no {file}, although the job succeeded: do tables and job_tables of the settings file name the "
            "same place?"
        )
    verdict = msgspec.convert(content, WeekVerdict)
    airflow_api.tell(context, verdict.note)
    if verdict.confirmed:
        send_once(tables, [Alert(use_case, "forecasts", verdict.day, verdict.note)])
    if not verdict.retrain:
        raise AirflowSkipException(verdict.note)
    by_hand = f"__{run.run_id}" if order["by_hand"] else ""
    return {
        "run_id": f"retrain__{verdict.day}{by_hand}",
        "data": verdict.data,
        "plan": order["plan"] or settings.NO_PLAN,
        "why": "; ".join(verdict.reasons),
    }
