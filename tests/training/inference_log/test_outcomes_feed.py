"""The feed's files are read row by row: what is wrong with one costs no other, and is named."""

import gzip
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.scoring import spelling
from tests.support.tenants import TENANTS
from training.inference_log import outcomes_feed
from training.inference_log.outcomes_feed import Listing, list_feed, read_feed
from training.inference_log.sql_engine import Column, key_column
from training.use_case import Binary
from use_cases.attrition import USE_CASE as ATTRITION

DAY = date(2026, 3, 31)
HEADER = "EmployeeNumber,Attrition,effective_date\n"


def read(folder, use_case=ATTRITION):
    return read_feed(folder, list_feed(folder).files, key_column(use_case), use_case.label)


def read_text(folder, text, use_case=ATTRITION, name="a.csv"):
    (folder / name).write_text(text)
    return read(folder, use_case)


def values(found):
    return [(one.key, one.label, one.effective_date) for one in found]


def places(rejected):
    return [(one.file, one.row) for one in rejected]


def test_parquet_and_csv_with_other_spellings_are_read(tmp_path):
    table = pa.table({"employee_number": [7], "ATTRITION": ["yes"], "Effective Date": [DAY]})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.CSV").write_bytes("\ufeffEmployeeNumber,Attrition,EffectiveDate\n8, No ,2026-03-31\n\n".encode())
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(f"{HEADER}9,YES,2026-03-31\n".encode()))
    found, rejected = read(tmp_path)
    assert values(found) == [(7, "Yes", DAY), (8, "No", DAY), (9, "Yes", DAY)]
    assert rejected == []


def test_field_may_be_spelled_as_its_column_in_sql(tmp_path):
    found, rejected = read_text(tmp_path, "tenant_no,gave_notice,effective_date\n0042,ja,2026-03-31\n", TENANTS)
    assert values(found) == [("0042", "ja", DAY)]
    assert rejected == []


@pytest.mark.parametrize(
    ("text", "row", "reason"),
    [
        ("EmployeeNumber,Attrition\n7,Yes\n", 0, "no column effective_date"),
        ("", 0, "no column EmployeeNumber, Attrition, effective_date"),
        ("EmployeeNumber,employee_number,Attrition,effective_date\n7,7,Yes,2026-03-31\n", 0,
         "2 columns EmployeeNumber (EmployeeNumber, employee_number): leave one of them"),
        (f"{HEADER}x,Yes,2026-03-31\n", 1, "EmployeeNumber is not a number: 'x'"),
        (f"{HEADER}7.5,Yes,2026-03-31\n", 1, "EmployeeNumber is not a whole number: '7.5'"),
        (f"{HEADER}1_000,Yes,2026-03-31\n", 1, "EmployeeNumber is not a number: '1_000'"),
        (f"{HEADER}12345678901234567890,Yes,2026-03-31\n", 1,
         "EmployeeNumber is outside -9007199254740991 to 9007199254740991: '12345678901234567890' (line 2)"),
        (f"{HEADER}1e9999,Yes,2026-03-31\n", 1, "EmployeeNumber is infinite, or beyond 1.8e308: '1e9999'"),
        (f"{HEADER},Yes,2026-03-31\n", 1, "EmployeeNumber is empty"),
        (f"{HEADER}7,maybe,2026-03-31\n", 1, "Attrition is not one of Yes, No: 'maybe'"),
        (f"{HEADER}7,Yes,31.3.2026\n", 1, "effective_date is not a date such as 2026-09-30: '31.3.2026'"),
        (f"{HEADER}7,Yes,46295\n", 1, "effective_date is not a date"),
        (f"{HEADER}7,Yes,10000-01-01\n", 1, "effective_date is not a date"),
        (f"{HEADER}7\n", 1, "Attrition is empty"),
        (f"{HEADER}7,{'x' * 200_000},2026-03-31\n", 1, "EmployeeNumber cannot be read: a cell of more than 131,072"),
    ],
)  # fmt: skip
def test_unreadable_outcome_is_rejected_with_file_row_and_reason(tmp_path, text, row, reason):
    after = f"{text}8,No,2026-03-31\n" if row else text
    (tmp_path / "good.csv").write_text(f"{HEADER}7,Yes,2026-03-31\n")
    found, rejected = read_text(tmp_path, after, name="bad.csv")
    assert values(found) == [*([(8, "No", DAY)] if row else []), (7, "Yes", DAY)]
    assert places(rejected) == [("bad.csv", row)]
    assert reason in rejected[0].reason


def test_whatever_reading_a_value_raises_costs_its_row_alone(tmp_path, monkeypatch):
    """What a library raises is not known in advance: it once was an OverflowError, and ended every night."""
    real = spelling.day

    def day(value):
        if value == "2026-03-30":
            raise ArithmeticError("nobody thought of it")
        return real(value)

    monkeypatch.setattr(spelling, "day", day)
    found, rejected = read_text(tmp_path, f"{HEADER}7,Yes,2026-03-30\n8,No,2026-03-31\n")
    assert values(found) == [(8, "No", DAY)]
    assert [(one.row, one.reason) for one in rejected] == [(1, "ArithmeticError: nobody thought of it (line 2)")]


@pytest.mark.parametrize("text", ["7", "0007", "7.0", "+7", " 7 ", "7e0", "70e-1"])
def test_whole_number_is_the_same_key_however_it_is_written(tmp_path, text):
    found, rejected = read_text(tmp_path, f"{HEADER}{text},Yes,2026-03-31\n")
    assert values(found) == [(7, "Yes", DAY)]
    assert rejected == []


def test_number_key_of_any_parquet_type_is_the_same_key(tmp_path):
    for number, kind in enumerate((pa.int8(), pa.int64(), pa.float64(), pa.decimal128(22, 2))):
        keys = pa.array([7, None]).cast(kind)
        table = pa.table({"EmployeeNumber": keys, "Attrition": ["Yes", "No"], "effective_date": [DAY, DAY]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    found, rejected = read(tmp_path)
    assert values(found) == [(7, "Yes", DAY)] * 4
    assert [(one.row, one.reason) for one in rejected] == [(2, "EmployeeNumber is empty")] * 4


def test_text_in_place_of_a_number_and_the_reverse_are_refused_in_parquet(tmp_path):
    for key in ("EmployeeNumber", "tenant no"):
        label = {"EmployeeNumber": "Attrition", "tenant no": "gave notice"}[key]
        for number, keys in enumerate((pa.array(["0007"]), pa.array([7]), pa.array([7.0]))):
            table = pa.table({key: keys, label: ["YES" if label == "Attrition" else "ja"], "effective_date": [DAY]})
            (tmp_path / key).mkdir(exist_ok=True)
            pq.write_table(table, tmp_path / key / f"{number}.parquet")
    found, rejected = read(tmp_path / "EmployeeNumber")
    assert values(found) == [(7, "Yes", DAY)] * 2
    assert rejected[0].reason == "EmployeeNumber is not a number: '0007'; send 0007 without quotes"
    found, rejected = read(tmp_path / "tenant no", TENANTS)
    assert values(found) == [("0007", "ja", DAY)]
    assert [one.reason for one in rejected] == ["tenant no is not text: 7; send it in quotes: \"7\"",
                                                "tenant no is not text: 7; send it in quotes: \"7\""]  # fmt: skip


def test_number_that_is_not_whole_may_be_a_key():
    assert key_column(ATTRITION) == Column("EmployeeNumber", "EmployeeNumber", "integer")


@pytest.mark.parametrize(
    "text",
    ["2026-03-31", "2026-03-31 00:00:00", "2026-03-31T00:00:00Z", "2026-03-31T15:18:02.4675041+05:30", " 2026-03-31 ",
     "2026-03-31T00:00:00+05:30", "2026-04-01T02:00:00+05:30"],
)  # fmt: skip
def test_date_with_a_time_is_the_utc_day_unless_it_is_midnight_of_its_zone(tmp_path, text):
    found, rejected = read_text(tmp_path, f"{HEADER}7,Yes,{text}\n")
    assert values(found) == [(7, "Yes", DAY)]
    assert rejected == []


def test_parquet_dates_beyond_the_calendar_cost_only_their_rows(tmp_path):
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    stamps = pa.array([datetime(2026, 3, 31, tzinfo=UTC), last], pa.timestamp("us", "Europe/Berlin"))
    pq.write_table(
        pa.table({"EmployeeNumber": [7, 8], "Attrition": ["Yes", "No"], "effective_date": stamps}),
        tmp_path / "a.parquet",
    )
    days = pa.array([2**30, 0], pa.int32()).cast(pa.date32())
    pq.write_table(
        pa.table({"EmployeeNumber": [7, 8], "Attrition": ["Yes", "No"], "effective_date": days}), tmp_path / "b.parquet"
    )
    found, rejected = read(tmp_path)
    assert values(found) == [(7, "Yes", DAY), (8, "No", date(1970, 1, 1))]
    assert places(rejected) == [("a.parquet", 2), ("b.parquet", 1)]
    assert all("effective_date is beyond the calendar, which ends with the year 9999" in one.reason for one in rejected)


@pytest.mark.parametrize(
    ("label", "value", "known"),
    [
        (Binary("left", "1", "0"), 1.0, "1"),
        (Binary("left", "true", "false"), True, "true"),
        (Binary("left", "Y", "y"), "y", "y"),
        (Binary("left", "Ja", "Nein"), "JA", "Ja"),
    ],
)
def test_label_of_any_type_is_spelled_as_the_definition_spells_it(tmp_path, label, value, known):
    table = pa.table({"EmployeeNumber": [7], "left": [value], "effective_date": [DAY]})
    pq.write_table(table, tmp_path / "a.parquet")
    found, rejected = read_feed(tmp_path, ["a.parquet"], key_column(ATTRITION), label)
    assert values(found) == [(7, known, DAY)]
    assert rejected == []


def test_parquet_with_two_spellings_of_one_column_is_rejected_alone(tmp_path):
    table = pa.table({"EmployeeNumber": [7], "employee_number": [7], "Attrition": ["Yes"], "effective_date": [DAY]})
    pq.write_table(table, tmp_path / "bad.parquet")
    found, rejected = read_text(tmp_path, f"{HEADER}8,No,2026-03-31\n", name="good.csv")
    assert values(found) == [(8, "No", DAY)]
    assert places(rejected) == [("bad.parquet", 0)]
    assert "2 columns EmployeeNumber (EmployeeNumber, employee_number)" in rejected[0].reason


def test_what_is_not_utf_8_costs_its_row_where_it_is_in_one_of_the_three_columns(tmp_path):
    lines = ["name,tenant no,gave notice,effective_date", "Müller,1,ja,2026-03-31", "x,Ü2,ja,2026-03-31"]
    (tmp_path / "a.csv").write_bytes("\n".join(lines).encode("latin-1"))
    found, rejected = read(tmp_path, TENANTS)
    assert values(found) == [("1", "ja", DAY)]
    assert [(one.row, one.reason) for one in rejected] == [
        (2, "tenant no is not UTF-8 text: save the file as CSV UTF-8 (line 3)")
    ]


@pytest.mark.parametrize("content", [b"no", b"", b"PAR1 and then nothing PAR1"])
def test_file_that_is_not_parquet_is_rejected(tmp_path, content):
    (tmp_path / "bad.parquet").write_bytes(content)
    found, rejected = read(tmp_path)
    assert found == []
    assert places(rejected) == [("bad.parquet", 0)]
    assert "the file cannot be read" in rejected[0].reason


def test_row_that_its_own_file_contradicts_is_rejected_with_both_lines_and_the_later_counts(tmp_path):
    text = f"{HEADER}7,Yes,2026-03-31\n8,No,2026-03-31\n\n0007,no,2026-03-31\n7,Yes,2026-04-01\n8,No,2026-03-31\n"
    found, rejected = read_text(tmp_path, text)
    later = date(2026, 4, 1)
    assert values(found) == [(8, "No", DAY), (7, "No", DAY), (7, "Yes", later), (8, "No", DAY)]
    assert places(rejected) == [("a.csv", 1)]
    assert rejected[0].reason == (
        "Attrition is 'Yes', and 'No' for the same EmployeeNumber 7 and date in row 3 (line 5), which counts: "
        "leave one of the two (line 2)"
    )
    # A file whose name sorts later corrects: that is nobody's mistake.
    (tmp_path / "b.csv").write_text(f"{HEADER}7,Yes,2026-03-31\n")
    assert places(read(tmp_path)[1]) == [("a.csv", 1)]
    table = pa.table({"EmployeeNumber": [7, 7], "Attrition": ["Yes", "No"], "effective_date": [DAY, DAY]})
    pq.write_table(table, tmp_path / "c.parquet")
    assert "in row 2, which counts" in read(tmp_path)[1][1].reason


@given(rows=st.lists(st.tuples(st.sampled_from([7, 8]), st.sampled_from(["Yes", "No", "?"]), st.sampled_from([1, 2]))))
def test_each_row_counts_or_is_rejected_and_what_counts_does_not_contradict_itself(tmp_path_factory, rows):
    text = HEADER + "".join(f"{key},{label},2026-03-0{day}\n" for key, label, day in rows)
    found, rejected = read_text(tmp_path_factory.mktemp("feed"), text)
    assert sorted([one.row for one in found] + [one.row for one in rejected]) == list(range(1, len(rows) + 1))
    last = {(key, day): label for key, label, day in rows if label != "?"}
    assert {(one.key, one.effective_date.day): one.label for one in found} == last
    assert all(one.label == last[one.key, one.effective_date.day] for one in found)


def test_compressed_file_that_ends_early_keeps_the_rows_before(tmp_path):
    text = HEADER + "".join(f"{number},Yes,2026-03-31\n" for number in range(50_000))
    whole = gzip.compress(text.encode())
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    found, rejected = read(tmp_path)
    assert len(found) > 1000
    assert places(rejected) == [("a.csv.gz", len(found) + 1)]
    assert f"the file cannot be read after row {len(found)}: EOFError" in rejected[0].reason


@pytest.mark.parametrize("pause", [1, 3])
def test_file_that_is_written_to_while_it_is_read_counts_in_the_next_night(tmp_path, monkeypatch, pause):
    """Half a row may be another person's: ``2026-03-31,Yes,12`` of ``2026-03-31,Yes,1234``."""
    rows = ["2026-03-31,Yes,7", "2026-03-31,No,8", "2026-03-31,Yes,12"]
    header = "effective_date,Attrition,EmployeeNumber"
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]))
    (tmp_path / "b.csv").write_text(f"{header}\n2026-03-31,Yes,9\n")
    made = outcomes_feed._outcome
    asked = []

    def grows(*arguments):
        asked.append(arguments)
        if len(asked) == pause:
            with (tmp_path / "a.csv").open("a") as file:
                file.write("34\n")
        return made(*arguments)

    monkeypatch.setattr(outcomes_feed, "_outcome", grows)
    found, rejected = read(tmp_path)
    assert values(found) == [(9, "Yes", DAY)]
    assert places(rejected) == [("a.csv", 0)]
    assert "it was written to while it was read" in rejected[0].reason
    found, rejected = read(tmp_path)
    assert [key for key, _, _ in values(found)] == [7, 8, 1234, 9]
    assert rejected == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04\x14", "the file cannot be read: it is a zip archive or a workbook of a spreadsheet"),
        (HEADER.encode("utf-16"), "the file cannot be read: it is in UTF-16 or UTF-32: save it as CSV UTF-8"),
        (
            gzip.compress(HEADER.encode(), mtime=0),
            "the file cannot be read: it is compressed with gzip: let its name end in .csv.gz",
        ),
    ],
)
def test_what_is_visibly_no_text_is_told_by_what_it_is(tmp_path, content, words):
    (tmp_path / "a.csv").write_bytes(content)
    found, (rejected,) = read(tmp_path)
    assert found == []
    assert rejected.reason.startswith(words)


def test_every_file_is_read_or_told_but_those_that_a_program_hides(tmp_path):
    for name in ("a.xlsx", "sub/b.txt", "c.csv.bak", "~$a.xlsx", ".hidden.csv", "_SUCCESS"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{HEADER}7,Yes,2026-03-31\n")
    found, rejected = read(tmp_path)
    assert found == []
    assert places(rejected) == [("a.xlsx", 0), ("c.csv.bak", 0), ("sub/b.txt", 0)]
    assert "its name ends in none of .csv, .csv.gz, .parquet: save it as CSV or Parquet" in rejected[0].reason


def test_name_of_a_file_may_be_of_any_bytes(tmp_path):
    (tmp_path / b"\xff.csv".decode("utf-8", "surrogateescape")).write_text(f"{HEADER}7,Yes,2026-03-31\n")
    found, rejected = read(tmp_path)
    assert rejected == []
    assert found[0].file == "\\udcff.csv"


def test_folder_that_is_not_there_or_not_named_holds_nothing(tmp_path):
    assert list_feed(tmp_path / "not there") == Listing()
    assert list_feed(None) == Listing()


def test_everything_in_the_feed_is_read_or_left_out_knowingly_or_told(tmp_path):
    feed = tmp_path / "feed"
    for name in (
        "a.csv",
        "OLD.CSV",
        "sub/b.csv.gz",
        "notes.txt",
        "~$a.xlsx",
        ".DS_Store",
        "_draft/c.csv",
        "table/x.parquet",
    ):
        (feed / name).parent.mkdir(parents=True, exist_ok=True)
        (feed / name).write_bytes(b"")
    (feed / "table" / "_delta_log").mkdir()
    (feed / "nothing.csv").symlink_to(feed / "gone")
    (feed / "linked").symlink_to(tmp_path, target_is_directory=True)
    found = list_feed(feed)
    assert found.files == ("OLD.CSV", "a.csv", "notes.txt", "sub/b.csv.gz")
    assert found.ignored == (".DS_Store", "_draft", "~$a.xlsx")
    assert [(one.file, one.reason.partition(",")[0]) for one in found.unread] == [
        ("linked", "a link to a folder is not followed: put the folder itself here"),
        ("nothing.csv", "it is a link to nothing"),
        ("table", "it is a Delta table"),
    ]


def test_name_that_is_not_utf8_is_told_in_words_that_every_file_can_hold(tmp_path):
    (tmp_path / b"a\xff.csv".decode("utf-8", "surrogateescape")).write_text("x")
    _, rejected = read_feed(tmp_path, list_feed(tmp_path).files, key_column(ATTRITION), ATTRITION.label)
    assert [one.file.encode() for one in rejected] == [b"a\\udcff.csv"]
