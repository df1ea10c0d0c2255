"""The forecast job: what Databricks runs to write one date's forecasts, and to judge the weeks that have ended.

``forecast_job.py score|judge --run-key KEY --config JSON``. It may be killed and run again: it replaces what it wrote.
A release approves code together with a bundle, so code of an earlier release may be told more than it knows: settings
that a task does not know are passed over.
"""

import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

if __name__ == "__main__":
    # Databricks runs this file by its path: the code root takes the place of this folder on the path.
    ROOT = Path(__file__).resolve().parents[1]
    sys.path[:] = [str(ROOT), *(e for e in sys.path if Path(e or ".").resolve() != ROOT / "training")]

import msgspec

from training import command_line
from training.forecasting.cycle import Role
from training.forecasting.limits import ForecastLimits
from training.use_case import UseCase

log = logging.getLogger("forecast")


class ForecastConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``--config`` of the forecast job."""

    use_case: str
    """Name of the use case, as its folder is called."""
    source: str
    """The history: CSV, Parquet or Delta, as the job reaches it."""
    plan: str = ""
    """What is known of weeks to come. Empty: nothing."""
    day: date
    """The date whose partition is replaced, or that is judged."""
    version: str = ""
    """The registered version. Empty where there is none to judge."""
    bundle_digest: str = ""
    """What the version's bundle must have as digest."""
    role: Role = "champion"
    until: str = ""
    take_over: bool = False
    by_hand: bool = False
    """Train whatever the verdict."""
    tables: str
    model_name: str
    experiment: str
    limits: ForecastLimits = ForecastLimits()


def score(config: ForecastConfig, use_case: UseCase) -> None:
    """Fetch the pinned bundle and write the date's forecasts with it."""
    from training.forecasting.score import Order, run

    known = {name: getattr(config, name) for name in Order.__struct_fields__}
    order = msgspec.convert(known, Order)
    with _bundle(config) as bundle:
        log.info(run(use_case, bundle, order, Path(config.tables), config.limits).note)


def judge(config: ForecastConfig, use_case: UseCase) -> None:
    """Judge the weeks that have ended, and keep the verdict in MLflow."""
    from training.forecasting.forecaster import Forecaster
    from training.forecasting.judge import Champion, record
    from training.forecasting.judge import judge as judge_weeks

    champion = None
    if config.version:
        with _bundle(config) as bundle:
            champion = Champion(config.version, Forecaster.load(bundle).trained_until)
    tables = Path(config.tables)
    verdict = judge_weeks(use_case, config.source, tables, config.day, champion, config.limits, by_hand=config.by_hand)
    record(config.model_name, config.experiment, tables, config.day, verdict)
    log.info(verdict.note)


@contextmanager
def _bundle(config: ForecastConfig) -> Iterator[Path]:
    """The version's bundle, which must be the one that was pinned."""
    from training.registry.tracking import Tracker
    from training.registry.versions import fetch_pinned

    tracker = Tracker(experiment=config.experiment, model_name=config.model_name, run_key="")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        yield fetch_pinned(tracker.client, config.model_name, config.version, config.bundle_digest, folder)


TASKS = {"score": score, "judge": judge}


def main(arguments: list[str] | None = None) -> None:
    """Run one task."""
    parser = command_line.make_parser("forecast_job.py", "Write or judge forecasts.", [*TASKS])
    parsed = command_line.begin(parser, arguments)
    config, use_case = command_line.read_config(parser, parsed.config, ForecastConfig)
    log.info("task %s of %s for %s: %s", parsed.task, parsed.run_key, use_case.name, config.day)
    TASKS[parsed.task](config, use_case)


if __name__ == "__main__":
    main()
