"""Outcomes label the right records: as of their date, the latest, with corrections, and never from the future."""

from datetime import date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training.inference_log.schema import COLUMNS

from tests.support.nights import rows
from training.data.dataset import read_employees
from training.data.validation import find_faults
from training.inference_log import layout, outcomes
from training.inference_log.day_tables import inference_columns
from training.inference_log.outcomes import label, read_feed
from use_cases.attrition.sample import make_employees

NIGHT = date(2026, 11, 2)
TYPES = {
    "STRING": pa.string(), "INT": pa.int32(), "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us"),
}  # fmt: skip


@pytest.fixture
def original(tmp_path):
    path = tmp_path / "employees.csv"
    make_employees(300, 1).to_csv(path, index=False)
    return str(path)


@pytest.fixture
def feed(tmp_path):
    folder = tmp_path / "feed"
    folder.mkdir()
    return folder


def scored(tables, *records, night="2026-11-01"):
    """Rows of table ``inference``: (employee, time, age)."""
    person = make_employees(1, 2).to_dict("records")[0]
    columns = inference_columns(COLUMNS)
    by_day = {}
    for number, (employee, when, age) in enumerate(records):
        row = {name: person.get(name) for name in columns} | {
            "EmployeeNumber": employee, "Age": age, "event_time": datetime.fromisoformat(when), "record": 0,
            "request_id": f"r{number}", "model_version": "3", "prediction": 0.5, "source_night": night,
            "source_file": 0, "source_offset": number, "curated_night": night,
        }  # fmt: skip
        by_day.setdefault(row["event_time"].date(), []).append(row)
    schema = pa.schema([(name, TYPES[kind]) for name, kind in columns.items()])
    for day, found in by_day.items():
        folder = layout.day_folder(tables, "inference", day)
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(found, schema), folder / "part-0.parquet")


def drop(feed, name, *outcomes):
    lines = ["EmployeeNumber,Attrition,effective_date", *(",".join(map(str, one)) for one in outcomes)]
    (feed / name).write_text("\n".join(lines) + "\n")


def labelled(engine, tmp_path, feed, original, night=NIGHT):
    label(engine, tmp_path / "tables", night, COLUMNS, feed=feed, original=original)
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
    for writes in range(4):
        for path in files:
            path.unlink(missing_ok=True)
        kills[0] = writes
        with pytest.raises(Killed):
            labelled(engine, tmp_path, feed, original)
    kills[0] = 4
    labelled(engine, tmp_path, feed, original)
    assert {path: path.read_bytes() for path in tables.glob("*/night=*/*") if path.is_file()} == before


def test_training_table_is_read_by_the_training_job_with_every_row(engine, tmp_path, feed, original):
    scored(tmp_path / "tables", *((n, "2026-02-01T08:00:00", 30) for n in range(1, 50)))
    drop(feed, "1.csv", *((n, "Yes", "2026-03-31") for n in range(1, 50)))
    found = label(engine, tmp_path / "tables", NIGHT, COLUMNS, feed=feed, original=original)
    assert (found.labelled, found.original, found.rows) == (49, 300, 349)
    table = layout.night_folder(tmp_path / "tables", "training", NIGHT)
    employees = read_employees(str(table))
    assert len(employees.frame) == 349
    assert (employees.frame["Attrition"] == "Yes").sum() > 49
    assert find_faults(pq.read_table(table).to_pandas()) == []


def test_without_outcomes_the_training_table_is_the_original_set(engine, tmp_path, feed, original):
    found = label(engine, tmp_path / "tables", NIGHT, COLUMNS, feed=feed / "not there", original=original)
    assert (found.outcomes, found.labelled, found.rows) == (0, 0, 300)
    table = layout.night_folder(tmp_path / "tables", "training", NIGHT)
    assert read_employees(str(table)).digest == read_employees(original).digest


def test_parquet_and_csv_with_other_spellings_are_read(feed):
    table = pa.table({"employee_number": [7], "ATTRITION": ["yes"], "Effective Date": [date(2026, 3, 31)]})
    pq.write_table(table, feed / "a.parquet")
    (feed / "b.csv").write_bytes("\ufeffEmployeeNumber,Attrition,EffectiveDate\n8, No ,2026-03-31\n\n".encode())
    found, rejected = read_feed(feed, ["a.parquet", "b.csv"])
    assert [row[:3] for row in found] == [(7, "Yes", date(2026, 3, 31)), (8, "No", date(2026, 3, 31))]
    assert rejected == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("EmployeeNumber,Attrition\n7,Yes\n", "no column effective_date"),
        ("", "no column EmployeeNumber, Attrition, effective_date"),
        ("EmployeeNumber,Attrition,effective_date\nx,Yes,2026-03-31\n", "EmployeeNumber is no whole number"),
        ("EmployeeNumber,Attrition,effective_date\n7,maybe,2026-03-31\n", "Attrition is not one of Yes, No"),
        ("EmployeeNumber,Attrition,effective_date\n7,Yes,31.3.2026\n", "effective_date is no date"),
        ("EmployeeNumber,Attrition,effective_date\n7\n", "Attrition is not one of Yes, No"),
    ],
)  # fmt: skip
def test_unreadable_outcome_is_rejected_with_file_row_and_reason(feed, text, reason):
    (feed / "bad.csv").write_text(text)
    drop(feed, "good.csv", (7, "Yes", "2026-03-31"))
    found, rejected = read_feed(feed, ["bad.csv", "good.csv"])
    assert len(found) == 1
    assert [(one["file"], one["row"]) for one in rejected] == [("bad.csv", 1)]
    assert reason in rejected[0]["reason"]


def test_file_that_is_no_parquet_is_rejected(feed):
    (feed / "bad.parquet").write_bytes(b"no")
    found, rejected = read_feed(feed, ["bad.parquet"])
    assert found == []
    assert "cannot be read on" in rejected[0]["reason"]
