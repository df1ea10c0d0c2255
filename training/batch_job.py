"""The batch job: what Databricks runs to score one table with one model.

``batch_job.py score --run-key KEY --config JSON``. It may be killed and run again: it replaces the partitions of its
date.
"""

import logging
import sys
import tempfile
from datetime import date
from pathlib import Path

if __name__ == "__main__":
    # Databricks runs this file by its path: the code root takes the place of this folder on the path.
    ROOT = Path(__file__).resolve().parents[1]
    sys.path[:] = [str(ROOT), *(e for e in sys.path if Path(e or ".").resolve() != ROOT / "training")]

import msgspec

from training import command_line
from training.use_case import UseCase

log = logging.getLogger("batch")


class BatchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``--config`` of the batch job."""

    use_case: str
    """Name of the use case, as its folder is called."""
    source: str
    """The table to score: CSV, Parquet or Delta, as the job reaches it."""
    day: date
    """The date whose partitions are replaced."""
    version: str
    """The registered version that scores."""
    bundle_digest: str
    """What the version's bundle must have as digest: it is pinned when the run starts."""
    explain: bool = False
    """Whether the scores say why each row has its probability."""
    tables: str
    model_name: str
    experiment: str


def score(config: BatchConfig, use_case: UseCase) -> None:
    """Fetch the pinned bundle and score the table with it."""
    from training.batch.run import score_table
    from training.batch.score import Pinned
    from training.registry.tracking import Tracker
    from training.registry.versions import fetch_pinned

    tracker = Tracker(experiment=config.experiment, model_name=config.model_name, run_key="")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        bundle = fetch_pinned(tracker.client, config.model_name, config.version, config.bundle_digest, folder)
        pinned = Pinned(config.version, config.bundle_digest, config.explain)
        log.info(score_table(use_case, bundle, pinned, config.source, Path(config.tables), config.day).note)


def main(arguments: list[str] | None = None) -> None:
    """Run one task."""
    parser = command_line.make_parser("batch_job.py", "Score one table.", ["score"])
    parsed = command_line.begin(parser, arguments)
    config, use_case = command_line.read_config(parser, parsed.config, BatchConfig)
    log.info("%s for %s: %s", parsed.run_key, use_case.name, config.day)
    score(config, use_case)


if __name__ == "__main__":
    main()
