"""Outcomes label the right records: as of their date, the latest, with corrections, and never from the future."""

import random
import re
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.nights import open_duckdb, rows
from tests.support.tenants import KEYLESS, TENANTS
from training.data.dataset import read_table
from training.data.synthetic import make_rows
from training.inference_log import layout, outcomes
from training.inference_log.day_tables import inference_columns
from training.inference_log.outcomes import Original, label
from use_cases.attrition import USE_CASE as ATTRITION
from use_cases.attrition.sample import make_sample

NIGHT = date(2026, 11, 2)
TYPES = {
    "STRING": pa.string(), "INT": pa.int32(), "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us"),
}  # fmt: skip


@pytest.fixture
def original(tmp_path):
    path = tmp_path / "employees.csv"
    make_sample(300, 1).to_csv(path, index=False)
    return str(path)


def first(location, use_case=ATTRITION):
    return Original(read_table(use_case, location), "the first table")


@pytest.fixture
def feed(tmp_path):
    folder = tmp_path / "feed"
    folder.mkdir()
    return folder


def scored(tables, *records, night="2026-11-01"):
    """Rows of table ``inference``: (employee, time, age)."""
    person = make_sample(1, 2).to_dict("records")[0]
    columns = inference_columns(ATTRITION)
    by_day = {}
    for number, (employee, when, age) in enumerate(records):
        row = {name: person.get(name) for name in columns} | {
            "EmployeeNumber": employee, "Age": age, "event_time": datetime.fromisoformat(when), "record": 0,
            "request_id": f"r{number}", "model_version": "3", "prediction": 0.5, "source_night": night,
            "source_file": 0, "source_offset": number, "curated_night": night,
        }  # fmt: skip
        by_day.setdefault(row["event_time"].date(), []).append(row)
    write_inference(tables, columns, by_day)


def write_inference(tables, columns, by_day):
    schema = pa.schema([(name, TYPES[kind]) for name, kind in columns.items()])
    for day, found in by_day.items():
        folder = layout.day_folder(tables, "inference", day)
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(found, schema), folder / "part-0.parquet")


def drop(feed, name, *outcomes):
    lines = ["EmployeeNumber,Attrition,effective_date", *(",".join(map(str, one)) for one in outcomes)]
    (feed / name).write_text("\n".join(lines) + "\n")


def labelled(engine, tmp_path, feed, original, night=NIGHT):
    label(engine, tmp_path / "tables", night, ATTRITION, feed=feed, original=first(original))
    found = rows(tmp_path / "tables", f"labelled/night={night}")
    return [(row["EmployeeNumber"], row["Attrition"], str(row["effective_date"]), row["Age"]) for row in found]


def test_outcome_labels_the_latest_record_before_its_date_and_none_after(engine, tmp_path, feed, original):
    scored(
        tmp_path / "tables",
        (7, "2026-06-01T08:00:00", 30), (7, "2026-08-31T23:59:59", 31),
        (7, "2026-09-01T00:00:00", 99), (7, "2026-09-15T08:00:00", 99),
    )  # fmt: skip
    drop(feed, "q3.csv", (7, "Yes", "2026-09-01"), (8, "No", "2026-09-01"))
    assert labelled(engine, tmp_path, feed, original) == [(7, "Yes", "2026-09-01", 31)]


def test_each_period_of_an_employee_is_labelled_with_its_own_record(engine, tmp_path, feed, original):
    scored(tmp_path / "tables", (7, "2026-02-01T08:00:00", 30), (7, "2026-05-01T08:00:00", 31))
    drop(feed, "all.csv", (7, "No", "2026-03-31"), (7, "Yes", "2026-06-30"), (7, "No", "2026-04-15"))
    assert labelled(engine, tmp_path, feed, original) == [
        (7, "No", "2026-03-31", 30),
        (7, "Yes", "2026-06-30", 31),
    ]


def test_late_outcome_takes_its_place_between_the_others(engine, tmp_path, feed, original):
    scored(tmp_path / "tables", (7, "2026-02-01T08:00:00", 30))
    drop(feed, "1.csv", (7, "Yes", "2026-06-30"))
    assert labelled(engine, tmp_path, feed, original) == [(7, "Yes", "2026-06-30", 30)]
    drop(feed, "2.csv", (7, "No", "2026-03-31"))
    later = NIGHT.replace(day=3)
    assert labelled(engine, tmp_path, feed, original, later) == [(7, "No", "2026-03-31", 30)]


def test_correction_in_a_later_file_replaces_the_outcome(engine, tmp_path, feed, original):
    scored(tmp_path / "tables", (7, "2026-02-01T08:00:00", 30))
    drop(feed, "2026-04.csv", (7, "Yes", "2026-03-31"))
    drop(feed, "2026-05.csv", (7, "No", "2026-03-31"))
    assert labelled(engine, tmp_path, feed, original) == [(7, "No", "2026-03-31", 30)]


def test_record_older_than_a_year_is_not_labelled(engine, tmp_path, feed, original):
    scored(tmp_path / "tables", (7, "2025-01-01T08:00:00", 30))
    drop(feed, "1.csv", (7, "Yes", "2026-03-31"))
    assert labelled(engine, tmp_path, feed, original) == []


def test_labelling_a_night_again_gives_the_same_bytes_whatever_came_later(engine, tmp_path, feed, original):
    scored(tmp_path / "tables", (7, "2026-02-01T08:00:00", 30))
    drop(feed, "1.csv", (7, "Yes", "2026-03-31"))
    labelled(engine, tmp_path, feed, original)
    files = sorted((tmp_path / "tables").glob("*/night=2026-11-02/*.parquet"))
    before = [file.read_bytes() for file in files]
    scored(tmp_path / "tables", (7, "2026-03-01T08:00:00", 31), night="2026-11-03")
    drop(feed, "2.csv", (7, "No", "2026-03-31"))
    labelled(engine, tmp_path, feed, original)
    assert len(files) == 2
    assert [file.read_bytes() for file in files] == before


class Killed(BaseException):
    """Stands for the end of the process: nothing may handle it."""


def test_labelling_killed_at_every_write_and_run_again_gives_the_same_files(
    engine, tmp_path, feed, original, monkeypatch
):
    tables, kills = tmp_path / "tables", [99]
    scored(tables, (7, "2026-02-01T08:00:00", 30))
    drop(feed, "1.csv", (7, "Yes", "2026-03-31"), (8, "perhaps", "2026-03-31"))

    def mortal(real):
        def write(*arguments, **more):
            kills[0] -= 1
            if kills[0] < 0:
                raise Killed
            return real(*arguments, **more)

        return write

    monkeypatch.setattr(engine, "write", mortal(engine.write))
    monkeypatch.setattr(layout, "write_json", mortal(layout.write_json))
    labelled(engine, tmp_path, feed, original)
    files = [path for path in tables.glob("*/night=*/*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    assert {path.name for path in files} >= {outcomes.REJECTED, outcomes.SOURCES}
    for writes in range(5):
        for path in files:
            path.unlink(missing_ok=True)
        kills[0] = writes
        with pytest.raises(Killed):
            labelled(engine, tmp_path, feed, original)
    kills[0] = 5
    labelled(engine, tmp_path, feed, original)
    assert {path: path.read_bytes() for path in tables.glob("*/night=*/*") if path.is_file()} == before


def test_training_table_is_read_by_the_training_job_with_every_row(engine, tmp_path, feed, original):
    scored(tmp_path / "tables", *((n, "2026-02-01T08:00:00", 30) for n in range(1, 50)))
    drop(feed, "1.csv", *((n, "Yes", "2026-03-31") for n in range(1, 50)))
    found = label(engine, tmp_path / "tables", NIGHT, ATTRITION, feed=feed, original=first(original))
    assert (found.labelled, found.original, found.rows) == (49, 300, 349)
    table = layout.night_folder(tmp_path / "tables", "training", NIGHT)
    employees = read_table(ATTRITION, str(table))
    assert len(employees.frame) == 349
    assert (employees.frame["Attrition"] == "Yes").sum() > 49


def test_without_outcomes_the_training_table_is_the_original_set(engine, tmp_path, feed, original):
    found = label(engine, tmp_path / "tables", NIGHT, ATTRITION, feed=feed / "not there", original=first(original))
    assert (found.outcomes, found.labelled, found.rows) == (0, 0, 300)
    table = layout.night_folder(tmp_path / "tables", "training", NIGHT)
    assert read_table(ATTRITION, str(table)).digest == read_table(ATTRITION, original).digest


def test_outcome_counts_from_its_own_date_on(engine, tmp_path, feed, original):
    scored(tmp_path / "tables", (7, "2026-10-01T08:00:00", 30), (8, "2026-10-01T08:00:00", 40))
    drop(feed, "1.csv", (7, "Yes", "2026-11-02"), (7, "No", "2027-10-01"), (8, "Yes", "2026-11-03"))
    assert labelled(engine, tmp_path, feed, original) == [(7, "Yes", "2026-11-02", 30)]
    found = label(engine, tmp_path / "tables", NIGHT, ATTRITION, feed=feed, original=first(original))
    assert (found.outcomes, found.later, found.labelled) == (3, 2, 1)
    assert "3 outcomes read (2 of a later date)" in found.note
    assert labelled(engine, tmp_path, feed, original, NIGHT.replace(day=3))[1:] == [(8, "Yes", "2026-11-03", 40)]


def test_example_of_the_docs_comes_to_what_they_say(engine, tmp_path, feed, original):
    """600 outcomes were dropped, none became a label, and nothing said why."""
    page = (Path(__file__).parents[3] / "docs" / "getting-started.md").read_text()
    (example,) = re.findall(r"```csv\n(.*?)```", page, re.DOTALL)
    (feed / "november.csv").write_text(example)
    scored(tmp_path / "tables", (1, "2026-11-01T10:00:00", 30), (2, "2026-11-02T09:00:00", 40), night="2026-11-02")
    found = label(engine, tmp_path / "tables", NIGHT, ATTRITION, feed=feed, original=first(original))
    assert (found.outcomes, found.later, found.repeated, found.unscored, found.labelled) == (4, 1, 0, 2, 1)
    assert found.rejected == 1
    assert f"*{found.told}*" in " ".join(page.split())
    assert labelled(engine, tmp_path, feed, original) == [(1, "Yes", "2026-11-02", 30)]


@pytest.mark.parametrize("seed", range(3))
def test_every_row_of_the_feed_has_exactly_one_end(engine, tmp_path, feed, original, seed):
    rng = random.Random(seed)
    days = [f"2026-{month}" for month in ("10-30", "11-01", "11-02", "11-05")]
    drop(feed, "1.csv", *((rng.randrange(6), rng.choice(["Yes", "No"]), rng.choice(days)) for _ in range(40)))
    scored(tmp_path / "tables", *((employee, f"2026-10-{29 + employee % 3}T08:00:00", 30) for employee in range(4)))
    found = label(engine, tmp_path / "tables", NIGHT, ATTRITION, feed=feed, original=first(original))
    assert found.outcomes + found.rejected == 40
    assert found.rejected + found.labelled + found.later + found.repeated + found.unscored == 40
    assert min(found.labelled, found.later, found.repeated, found.unscored) > 0


def test_correction_that_moves_an_outcome_to_a_later_night_waits_with_it(engine, tmp_path, feed, original):
    scored(tmp_path / "tables", (7, "2026-10-01T08:00:00", 30))
    drop(feed, "1.csv", (7, "Yes", "2027-03-31"))
    assert labelled(engine, tmp_path, feed, original) == []


@pytest.fixture
def tenants(tmp_path):
    """An engine for the tenants."""
    opened = open_duckdb(tmp_path / "spill", use_case=TENANTS)
    yield opened
    opened.close()


@pytest.fixture
def contracts(tmp_path):
    """The tenants' original table."""
    path = tmp_path / "contracts.csv"
    make_rows(TENANTS, 300, 1).to_csv(path, index=False)
    return str(path)


def score_tenants(tables, *records):
    """Rows of table ``inference``: (tenant, time)."""
    columns = inference_columns(TENANTS)
    by_day = {}
    for number, (tenant, when) in enumerate(records):
        row = dict.fromkeys(columns) | {
            "tenant_no": tenant, "order_": number, "event_time": datetime.fromisoformat(when), "record": 0,
            "request_id": f"r{number}", "model_version": "3", "prediction": 0.5, "source_night": "2026-11-01",
            "source_file": 0, "source_offset": number, "curated_night": "2026-11-01",
        }  # fmt: skip
        by_day.setdefault(row["event_time"].date(), []).append(row)
    write_inference(tables, columns, by_day)


def test_text_key_with_zeros_other_label_values_and_horizon_come_from_the_use_case(tenants, tmp_path, feed, contracts):
    tables = tmp_path / "tables"
    score_tenants(tables, ("0007", "2026-10-01T08:00:00"), ("7", "2026-10-02T08:00:00"), ("8", "2026-07-01T08:00:00"))
    (feed / "1.csv").write_text(
        "TENANT NO,Gave_Notice,EffectiveDate\n0007,JA,2026-10-31\n7,N'est pas,2026-10-31\n8,ja,2026-10-31\n"
    )
    found = label(tenants, tables, NIGHT, TENANTS, feed=feed, original=first(contracts, TENANTS))
    assert (found.outcomes, found.rejected, found.labelled, found.original) == (3, 0, 2, 300)
    table = rows(tables, f"training/night={NIGHT}")
    assert {(row["tenant_no"], row["gave_notice"], row["order_"]) for row in table if row["source"] == "inference"} == {
        ("0007", "ja", 0), ("7", "n'est pas", 1),
    }  # fmt: skip
    assert set(TENANTS.columns.values()) < table[0].keys()
    read = read_table(TENANTS, str(layout.night_folder(tables, "training", NIGHT)))
    assert list(read.frame.columns) == list(TENANTS.columns)
    assert {"0007", "7"} <= set(read.frame["tenant no"])
    assert (len(read.frame), int(read.recent.sum())) == (302, 2)


def test_use_case_without_a_key_gets_a_table_of_the_original_rows_and_is_told_why(tenants, tmp_path, feed, contracts):
    tables = tmp_path / "tables"
    score_tenants(tables, ("7", "2026-10-02T08:00:00"))
    (feed / "1.csv").write_text("tenant no,gave notice,effective_date\n7,ja,2026-10-31\n")
    found = label(tenants, tables, NIGHT, KEYLESS, feed=feed, original=first(contracts, KEYLESS))
    assert (found.outcomes, found.labelled, found.original) == (0, 0, 300)
    assert "this use case has no key, so outcomes cannot be joined to records" in found.note
    assert rows(tables, f"labelled/night={NIGHT}") == []
    written = [row["order_"] for row in rows(tables, f"training/night={NIGHT}")]
    assert written == read_table(KEYLESS, contracts).frame["order"].tolist()


def test_feed_of_which_nothing_can_be_read_leaves_the_original_set_and_is_told(engine, tmp_path, feed, original):
    drop(feed, "1.csv", ("x", "Yes", "2026-03-31"), (12345678901234567890, "Yes", "2026-03-31"))
    (feed / "2.xlsx").write_bytes(b"PK")
    found = label(engine, tmp_path / "tables", NIGHT, ATTRITION, feed=feed, original=first(original))
    assert (found.outcomes, found.rejected, found.rows) == (0, 3, 300)
    rejected = outcomes.read_rejected(tmp_path / "tables", NIGHT)
    assert [(one.file, one.row) for one in rejected] == [("1.csv", 1), ("1.csv", 2), ("2.xlsx", 0)]


def test_file_that_was_moved_away_since_the_first_try_costs_only_itself(engine, tmp_path, feed, original):
    scored(tmp_path / "tables", (7, "2026-02-01T08:00:00", 30))
    drop(feed, "1.csv", (7, "Yes", "2026-03-31"))
    drop(feed, "2.csv", (7, "Yes", "2026-03-31"))
    labelled(engine, tmp_path, feed, original)
    (feed / "1.csv").unlink()
    assert labelled(engine, tmp_path, feed, original) == [(7, "Yes", "2026-03-31", 30)]
    (rejected,) = outcomes.read_rejected(tmp_path / "tables", NIGHT)
    assert (rejected.file, rejected.row) == ("1.csv", 0)
    assert "cannot be read: FileNotFoundError" in rejected.reason
