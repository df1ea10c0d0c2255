"""The preview job: what Databricks runs to find out what a release would change for the records at hand.

``preview_job.py preview --run-key KEY --config JSON``. It may be killed and run again: what a run with this key has
found is kept with the challenger's training run, and found there.
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
from training.impact import record
from training.impact.record import Impact, Preview
from training.use_case import UseCase

log = logging.getLogger("preview")


class PreviewConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``--config`` of the preview job."""

    use_case: str
    """Name of the use case, as its folder is called."""
    challenger: str
    """The registered version that is to be released."""
    champion: str
    """The registered version that production runs."""
    today: date
    """The day of the release (UTC): records of later days do not count."""
    tables: str
    model_name: str
    experiment: str
    memory: str = "1GB"
    threads: int = 2


def preview(config: PreviewConfig, use_case: UseCase, run_key: str) -> Preview:
    """Compare the two versions on the newest list of records, and keep what was found; returns it."""
    from training.registry.tracking import Tracker
    from training.registry.versions import version_of_number

    tracker = Tracker(experiment=config.experiment, model_name=config.model_name, run_key="")
    run_id = str(tracker.client.get_model_version(config.model_name, config.challenger).run_id)
    path = record.path(run_key)
    listed = tracker.client.list_artifacts(run_id, str(Path(path).parent))
    if any(item.path == path for item in listed):
        with tempfile.TemporaryDirectory() as scratch:
            kept = Path(tracker.client.download_artifacts(run_id, path, scratch)).read_bytes()
        return msgspec.json.decode(kept, type=Preview)
    made = Preview(challenger=config.challenger, champion=config.champion)
    if version_of_number(tracker.client, config.model_name, config.champion) is None:
        reason = f"the registry no longer has version {config.champion}, which production runs"
        made = msgspec.structs.replace(made, reason=reason)
    elif impact := _impact(config, use_case):
        made = msgspec.structs.replace(made, impact=impact)
    else:
        made = msgspec.structs.replace(made, reason=_NO_RECORDS)
    text = msgspec.json.format(msgspec.json.encode(made), indent=2).decode()
    tracker.client.log_text(run_id, text, path)
    return made


_NO_RECORDS = "no batch has been scored yet, and no night was closed in which a client asked"


def _impact(config: PreviewConfig, use_case: UseCase) -> Impact | None:
    """What the release would change; ``None`` where there are no records to see it on."""
    from serving.scoring.bundle import Bundle
    from training.impact.compare import compare, score
    from training.impact.records import read_records
    from training.inference_log.sql_engine import open_engine
    from training.registry.versions import fetch_bundle

    with tempfile.TemporaryDirectory() as scratch:
        engine = open_engine(use_case, Path(scratch), config.memory, config.threads)
        try:
            records = read_records(engine, Path(config.tables), use_case, config.today)
        finally:
            engine.close()
        if records is None:
            return None
        challenger, champion = (
            score(
                use_case, Bundle.load(fetch_bundle(config.model_name, version, Path(scratch) / f"v{version}")), records
            )
            for version in (config.challenger, config.champion)
        )
    return compare(use_case, records, challenger, champion, config.champion)


def main(arguments: list[str] | None = None) -> None:
    """Run one task."""
    parser = command_line.make_parser("preview_job.py", "Preview the impact of a release.", ["preview"])
    parsed = command_line.begin(parser, arguments)
    config, use_case = command_line.read_config(parser, parsed.config, PreviewConfig)
    log.info("%s for %s: %s", parsed.run_key, use_case.name, preview(config, use_case, parsed.run_key).sentence)


if __name__ == "__main__":
    main()
