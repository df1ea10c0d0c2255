"""The KQL figures of an export are those of the tables that the nightly run makes of it."""

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from tests.support.log_analytics import Workspace
from tests.support.nights import open_duckdb, process, rows, unpaired
from tests.support.simulate import CONTAINER, Export, log_lines, random_record
from training.use_case import load


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Requests of the last hours, some delivered twice, some without an answer, and lines that nobody can read.

    Returns the workspace that holds the lines, the tables made of the same lines, and the counts of the night.
    """
    home = tmp_path_factory.mktemp("exported")
    export = Export(home / "export", seed=8, half_written=0)
    now = datetime.now(UTC).replace(microsecond=0)
    for number in range(60):
        when = now - timedelta(minutes=30 + number)
        lost = "output" if number % 15 == 4 else None
        export.request(
            when, records=1 + number % 7, version=str(3 + number % 2), night=now.date(), stamp=when,
            times=1 + (number % 5 == 0), loses=lost,
        )  # fmt: skip
    person = random_record(export.rng, 1)
    line = log_lines([person], [0.5], [0.0], when=now, request_id="bad", client="x", version="3")[0]
    for text in (line[:-30], line.replace("request_id", "request")):
        export.deliver(text, now, now.date(), kind="quarantined", as_text=True)
    export.close(now.date())
    engine = open_duckdb(home / "spill")
    counts = process(engine, export.root / CONTAINER, home / "tables", now.date())
    engine.close()
    workspace = Workspace(load("attrition"))
    for file in (home / "tables" / "landing").rglob("*.parquet"):
        for record in map(json.loads, pq.read_table(file, partitioning=None)["line"].to_pylist()):
            stamp = datetime.fromisoformat(record["TimeGenerated"][:26]).replace(tzinfo=UTC)
            workspace.log(json.dumps(record["LogMessage"]), age=datetime.now(UTC) - stamp, source=record["LogSource"])
    return workspace, home / "tables", counts


def test_records_outliers_and_predictions_by_day_and_version_are_those_of_table_inference(exported):
    workspace, tables, _ = exported
    groups = defaultdict(list)
    for row in rows(tables, "inference"):
        groups[row["event_time"].date(), row["model_version"]].append(row)
    expected = {
        key: (
            len({row["request_id"] for row in found}), len(found), sum(row["is_outlier"] for row in found),
            len({row["client"] for row in found}), pytest.approx(sum(row["prediction"] for row in found) / len(found)),
        )
        for key, found in groups.items()
    }  # fmt: skip
    found = {
        (row["Day"].date(), row["Version"]): tuple(
            row[name] for name in ("Requests", "Records", "Outliers", "Clients", "MeanPrediction")
        )
        for row in workspace.ask("records")
    }
    assert {version for _, version in found} == {"3", "4"}
    assert found == expected


def test_requests_without_an_answer_are_those_of_table_unpaired(exported):
    workspace, tables, _ = exported
    assert {reason for *_, reason in unpaired(tables)} == {"input without output"}
    lost = {request_id for request_id, *_ in unpaired(tables)}
    assert len(lost) == 4
    assert {row["RequestId"] for row in workspace.ask("unanswered")} == lost


def test_share_of_unreadable_lines_is_that_of_table_quarantine(exported):
    workspace, tables, counts = exported
    found = workspace.ask("unreadable")
    assert sum(row["Lines"] for row in found) == counts.read
    assert sum(row["Unreadable"] for row in found) == counts.quarantined == len(rows(tables, "quarantine")) == 2
