"""The nightly job: what Databricks runs after the export was copied, a task at a time.

``nightly_job.py TASK --run-key KEY --config JSON`` with TASK curate, label or judge. Each task may be killed and run
again: it writes the same files. The tables are the hand-over from task to task.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if __name__ == "__main__":
    # Databricks runs this file by its path: the code root takes the place of this folder on the path.
    ROOT = Path(__file__).resolve().parents[1]
    sys.path[:] = [str(ROOT), *(e for e in sys.path if Path(e or ".").resolve() != ROOT / "training")]

import msgspec

from training import command_line
from training.drift.verdict import Limits
from training.inference_log import day_tables, layout, parse
from training.inference_log.sql_engine import Engine, open_engine
from training.use_case import UseCase

if TYPE_CHECKING:
    from training.registry.tracking import Tracker

log = logging.getLogger("curation")
_REJECTED_SHOWN = 20


class NightlyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``--config`` of the nightly job."""

    use_case: str
    """Name of the use case, as its folder is called."""
    nights: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """The nights to close, in order."""
    tables: str
    outcomes: str
    """Folder of the outcomes feed. It may be empty or not there yet; an empty name means that there is none."""
    original: str
    """The training set while there is no champion: CSV, Parquet or Delta. Afterwards it is the champion's."""
    model_name: str
    experiment: str
    limits: Limits = Limits()
    by_hand: bool = False
    """Train whatever the verdict."""
    memory: str = "1GB"
    threads: int = 2


def curate(config: NightlyConfig, use_case: UseCase, engine: Engine) -> None:
    """Read the landed lines of each night and rebuild the days that they belong to."""
    tables = Path(config.tables)
    for closed in map(date.fromisoformat, config.nights):
        parse.stage(engine, tables, closed, use_case)
        log.info(day_tables.rebuild(engine, tables, closed, use_case).note)


def label(config: NightlyConfig, use_case: UseCase, engine: Engine) -> None:
    """Join the outcomes as of their dates, and write each night's training table."""
    from training.drift.reference import original_data
    from training.inference_log import outcomes

    first = date.fromisoformat(config.nights[0])
    original = original_data(_tracker(config, first), use_case, config.original)
    feed = Path(config.outcomes) if config.outcomes else None
    tables = Path(config.tables)
    for closed in map(date.fromisoformat, config.nights):
        log.info(outcomes.label(engine, tables, closed, use_case, feed=feed, original=original).note)
        rejected = outcomes.read_rejected(tables, closed)
        for one in rejected[:_REJECTED_SHOWN]:
            log.warning("outcomes feed, %s, row %d: %s", one.file, one.row, one.reason)
        if len(rejected) > _REJECTED_SHOWN:
            log.warning("and %d more: see %s of the night", len(rejected) - _REJECTED_SHOWN, outcomes.REJECTED)


def judge(config: NightlyConfig, use_case: UseCase, engine: Engine) -> None:
    """Compare each night with the champion, decide, and keep verdict and report in MLflow."""
    from training.drift.judge import judge as judge_night
    from training.drift.record import record
    from training.drift.reference import champion_reference

    tables = Path(config.tables)
    reference = champion_reference(_tracker(config, date.fromisoformat(config.nights[0])), use_case)
    for closed in map(date.fromisoformat, config.nights):
        # A person's wish is for the run, which ends with its last night.
        wish = config.by_hand and closed.isoformat() == config.nights[-1]
        verdict = judge_night(engine, tables, closed, use_case, reference, config.limits, by_hand=wish)
        record(_tracker(config, closed), tables, closed, verdict)
        log.info(verdict.note)


def _tracker(config: NightlyConfig, night: date) -> "Tracker":
    from training.drift.record import monitoring_tracker

    return monitoring_tracker(config.model_name, config.experiment, night)


TASKS = {"curate": curate, "label": label, "judge": judge}


@contextmanager
def _engine(config: NightlyConfig, use_case: UseCase) -> Iterator[Engine]:
    scratch = layout.empty_folder(Path(config.tables) / ".spill")
    engine = open_engine(use_case, scratch, config.memory, config.threads)
    try:
        yield engine
    finally:
        engine.close()
        layout.remove_folder(scratch)


def main(arguments: list[str] | None = None) -> None:
    """Run one task."""
    parser = command_line.make_parser("nightly_job.py", "The nightly job, a task at a time.", [*TASKS])
    parsed = command_line.begin(parser, arguments)
    config, use_case = command_line.read_config(parser, parsed.config, NightlyConfig)
    try:
        layout.check_nights(config.nights, datetime.now(UTC).date())
    except layout.NightError as error:
        parser.error(f"--config is wrong: {error}")
    log.info("task %s of %s for %s: %s", parsed.task, parsed.run_key, use_case.name, ", ".join(config.nights))
    with _engine(config, use_case) as engine:
        TASKS[parsed.task](config, use_case, engine)


if __name__ == "__main__":
    main()
