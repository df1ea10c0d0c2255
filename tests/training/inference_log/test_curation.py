"""Messy exports become exactly the rows that the generator knows to be true."""

import json
import shutil
from datetime import date, timedelta

import pyarrow.parquet as pq
import pytest

from tests.support.nights import FIRST, PART_ROWS, curate, fingerprint, inference, open_duckdb, process, rows, unpaired
from tests.support.simulate import CONTAINER, Export
from training.inference_log import day_tables, landing, layout, parse
from training.inference_log.duckdb_engine import DuckEngine
from training.inference_log.parse import CurationError
from training.inference_log.sql_engine import open_engine
from use_cases.attrition import USE_CASE as ATTRITION

FAULTS = {
    "late", "delivered again", "duplicate", "blob grew", "half-written line", "gzip", "foreign", "clock skew",
    "lost input", "lost output", "request id reused", "broken JSON", "no LogMessage", "no TimeGenerated",
    "broken JSON in LogMessage", "no request_id", "no timestamp", "no list of records", "no predictions",
    "cut, at once", "cut, rest later", "cut, rest earlier", "cut, never",
}  # fmt: skip


def test_generator_makes_every_fault(messy):
    export, _, _ = messy
    assert {fault for fault, count in export.faults.items() if count} == FAULTS


def test_inference_table_equals_the_truth(messy):
    export, tables, _ = messy
    assert inference(tables, export.rows) == export.rows


def test_unpaired_table_equals_the_truth(messy):
    export, tables, _ = messy
    assert unpaired(tables) == export.unpaired


def test_quarantine_names_blob_offset_and_reason_of_every_unreadable_line(messy):
    export, tables, _ = messy
    for closed, expected in export.quarantine.items():
        found = rows(tables, f"quarantine/night={closed}")
        assert {(row["blob"], row["byte_offset"], row["reason"]) for row in found} == expected
        assert len(found) == len(expected)


def test_quarantine_offset_points_at_the_line_in_the_export(messy):
    export, tables, _ = messy
    plain = [row for row in rows(tables, "quarantine") if "/h=04/" not in row["blob"]]
    for row in plain:
        data = (export.root / CONTAINER / row["blob"]).read_bytes()
        assert row["byte_offset"] == 0 or data[row["byte_offset"] - 1 : row["byte_offset"]] == b"\n"


def test_counts_of_every_night_equal_the_truth_and_add_up(messy):
    export, _, counts = messy
    for closed, found in counts.items():
        truth = export.counts[closed]
        assert found.read == found.kept + found.duplicate + found.foreign + found.quarantined
        assert (found.read, found.kept, found.duplicate, found.foreign, found.quarantined) == tuple(
            truth[name] for name in ("read", "kept", "duplicate", "foreign", "quarantined")
        )
        assert sum(found.reasons.values()) == found.quarantined


def test_rows_lie_in_the_partition_of_their_own_day(messy):
    _, tables, _ = messy
    for day in layout.partitions(tables, "inference", layout.DAY):
        assert {row["event_time"].date() for row in rows(tables, f"inference/day={day}")} <= {day}


def test_day_made_in_parts_holds_the_rows_of_one_made_at_once_in_the_same_order(messy, tmp_path):
    _, tables, counts = messy
    for made in ("staging", "landing"):  # a night's counts name what its landing left out
        shutil.copytree(tables / made, tmp_path / "tables" / made)
    whole = open_duckdb(tmp_path / "spill", DuckEngine.part_rows)
    for closed in counts:
        assert day_tables.rebuild(whole, tmp_path / "tables", closed, ATTRITION) == counts[closed]
    whole.close()
    for table in ("inference", "unpaired"):
        assert rows(tmp_path / "tables", table) == rows(tables, table)
        assert len(list((tmp_path / "tables" / table / f"day={FIRST}").iterdir())) == 1
    parts = [pq.read_metadata(file).num_rows for file in (tables / "inference" / f"day={FIRST}").iterdir()]
    assert len(parts) > 1
    assert 0 < max(parts) <= PART_ROWS


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_other_seeds_equal_their_truth_too(seed, tmp_path, engine):
    export = Export(tmp_path / "export", seed=seed)
    export.messy_day(FIRST, requests=40)
    for number in range(3):
        curate(engine, export, tmp_path / "tables", FIRST + timedelta(days=number))
    assert inference(tmp_path / "tables", export.rows) == export.rows
    assert unpaired(tmp_path / "tables") == export.unpaired


def test_running_every_night_twice_in_any_order_leaves_the_same_bytes(messy, tmp_path, engine):
    export, tables, counts = messy
    again = tmp_path / "tables"
    shutil.copytree(tables, again)
    before = fingerprint(again)
    assert len(before) > 15
    for closed in reversed(counts):
        process(engine, export.root / CONTAINER, again, closed)
        assert fingerprint(again) == before


def test_tables_made_anew_from_the_landed_lines_are_the_same_bytes(messy, tmp_path, engine):
    export, tables, counts = messy
    shutil.copytree(tables / "landing", tmp_path / "tables" / "landing")
    for closed in counts:
        process(engine, export.root / CONTAINER, tmp_path / "tables", closed)
    assert fingerprint(tmp_path / "tables") == fingerprint(tables)


def test_a_night_copied_anew_from_the_export_gives_the_same_rows(messy, tmp_path, engine):
    export, tables, _ = messy
    again = tmp_path / "tables"
    shutil.copytree(tables, again)
    shutil.rmtree(layout.night_folder(again, "landing", FIRST))
    process(engine, export.root / CONTAINER, again, FIRST)
    assert inference(again, export.rows) == export.rows


def test_empty_night_succeeds_and_says_so(tmp_path, engine):
    export = Export(tmp_path / "export")
    counts = curate(engine, export, tmp_path / "tables", FIRST)
    assert counts.note == "night 2026-11-02: the export held no new lines"
    assert rows(tmp_path / "tables", "quarantine") == []
    assert counts.days == ()


def test_night_without_new_lines_after_a_full_one_changes_no_table(messy, tmp_path, engine):
    export, tables, _ = messy
    again = tmp_path / "tables"
    shutil.copytree(tables, again)
    before = fingerprint(again)
    counts = process(engine, export.root / CONTAINER, again, date(2026, 12, 24))
    after = fingerprint(again)
    assert counts.read == 0
    assert {path: digest for path, digest in after.items() if "2026-12-24" not in path} == before


def test_night_that_was_not_copied_is_refused_with_what_to_do(tmp_path, engine):
    with pytest.raises(CurationError, match=r"2026-11-02 has not been copied.*land_logs"):
        parse.stage(engine, tmp_path, FIRST, ATTRITION)


def test_input_in_one_night_and_output_in_the_next_become_one_row(tmp_path, engine):
    export = Export(tmp_path / "export", half_written=0)
    lines = export.request(export._moment(FIRST), night=date(2026, 11, 20))
    export._pending.clear()
    when = next(iter(export.rows))[1]
    export.deliver(lines[0], when, FIRST)
    export.deliver(lines[1], when, FIRST + timedelta(days=1))
    tables = tmp_path / "tables"
    curate(engine, export, tables, FIRST)
    assert [row["reason"] for row in rows(tables, "unpaired")] == ["input without output"]
    curate(engine, export, tables, FIRST + timedelta(days=1))
    assert inference(tables, export.rows) == export.rows
    assert rows(tables, "unpaired") == []


def respelled(message):
    """A log line that says the same in another spelling: members in another order, escapes, 3.0 for 3."""

    def other(value):
        if isinstance(value, dict):
            return {key: other(inner) for key, inner in reversed(value.items())}
        if isinstance(value, list):
            return [other(inner) for inner in value]
        return float(value) if type(value) is int else value

    return json.dumps({**other(json.loads(message)), "first_record": 0}, ensure_ascii=True, indent=None)


@pytest.mark.parametrize("later", [0, 1], ids=["in the same night", "in the next night"])
def test_line_that_is_delivered_again_in_another_spelling_is_a_copy(tmp_path, engine, later):
    export = Export(tmp_path / "export", half_written=0)
    when, night = export._moment(FIRST), FIRST + timedelta(days=later)
    for line in export.request(when, records=3, night=FIRST):
        assert respelled(line) != line
        export.deliver(respelled(line), when, night, kind="duplicate", as_text=True)
    tables = tmp_path / "tables"
    counts = [curate(engine, export, tables, FIRST + timedelta(days=number)) for number in range(later + 1)]
    assert inference(tables, export.rows) == export.rows
    assert rows(tables, "unpaired") == []
    assert (sum(one.kept for one in counts), sum(one.duplicate for one in counts)) == (2, 2)


@pytest.mark.parametrize("side", [0, 1], ids=["input", "output"])
def test_line_that_says_something_else_is_not_a_copy_whatever_its_spelling(tmp_path, engine, side):
    export = Export(tmp_path / "export", half_written=0)
    when = export._moment(FIRST)
    lines = export.request(when, records=2, night=FIRST)
    document = json.loads(respelled(lines[side]))
    if side:
        document["data"]["classifier__predictions"].reverse()
    else:
        document["data"].reverse()
    export.deliver(json.dumps(document), when, FIRST, as_text=True)
    curate(engine, export, tmp_path / "tables", FIRST)
    assert rows(tmp_path / "tables", "inference") == []
    assert {row["reason"] for row in rows(tmp_path / "tables", "unpaired")} == {"request_id used twice"}


def test_memory_limit_of_the_engine_makes_it_spill_and_not_fail(tmp_path):
    export = Export(tmp_path / "export", seed=9, half_written=0)
    for _ in range(1000):
        export.request(export._moment(FIRST), records=5)
    export.close(FIRST)
    small = open_engine(ATTRITION, tmp_path / "spill", "70MB", 2)
    counts = process(small, export.root / CONTAINER, tmp_path / "tables", FIRST)
    small.close()
    assert counts.kept == 2000
    assert len(rows(tmp_path / "tables", "inference")) == 5000


def test_engine_keeps_no_blocks_of_files_that_are_written_anew(engine):
    assert engine.query("SELECT current_setting('enable_external_file_cache') AS kept") == [{"kept": False}]


def test_landing_is_complete_only_with_its_manifest(messy):
    _, tables, counts = messy
    for closed in counts:
        manifest = landing.read_manifest(tables, closed)
        assert manifest is not None
        assert manifest.lines == counts[closed].read
