"""The data contract at the door: what is read, what is refused, and how it is told."""

import gzip

import msgspec
import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.data_error import DataError
from training.data.dataset import (
    HOLDOUT_SHARE,
    compared_rows,
    holdout_rows,
    read_snapshot,
    read_table,
    write_snapshot,
)
from training.data.synthetic import make_rows
from training.use_case import load

ATTRITION = load("attrition")


def broken(change):
    """A file writer: CSV of a frame that ``change`` has altered (in place, or by returning another)."""

    def write(frame, path):
        altered = frame.copy().astype(object)
        result = change(altered)
        (altered if result is None else result).to_csv(path, index=False)

    return write


def cells(column, rows, value):
    """Put ``value`` into ``rows`` of a column."""

    def change(frame):
        frame.loc[frame.index[:rows], column] = value

    return broken(change)


def raw(content: bytes):
    return lambda frame, path: path.write_bytes(content)


def without_leavers_in_holdout(frame):
    frame.loc[holdout_rows(ATTRITION, frame["EmployeeNumber"].to_numpy(int)), "Attrition"] = "No"


FAULTS = {
    "file is missing": (lambda frame, path: None, "file: it does not exist where the job runs"),
    "file is empty": (raw(b""), "file: it is empty: a header line and one line for each record"),
    "file is a picture": (raw(b"\x89PNG\r\n\x1a\n\x00\xff\xfe"), "file: it is not UTF-8 text"),
    "file is UTF-16": (
        lambda frame, path: frame.to_csv(path, index=False, encoding="utf-16"),
        "file: it is in UTF-16 or UTF-32: save it as CSV UTF-8",
    ),
    "lines of different length": (
        raw(b"Age,Attrition\n41,Yes\n41,Yes,3,4\n"),
        "file: it is not a CSV table: more cells than the header has columns (2) (line 3)",
    ),
    "lines longer than the header": (
        lambda frame, path: path.write_text(frame.to_csv(index=False).replace("\n", ",9\n").replace(",9\n", "\n", 1)),
        "file: it is not a CSV table: more cells than the header has columns (35) (lines 2, 3, 4, 5, 6, ...)",
    ),
    "prose instead of a table": (raw(b"Dear HR,\nhere is the list.\n"), "table: none of the 35 columns is there"),
    "semicolons": (
        lambda frame, path: frame.to_csv(path, index=False, sep=";"),
        "file: its cells are separated by semicolons: save it with commas between them, and numbers with a point",
    ),
    "header only": (broken(lambda frame: frame.head(0)), "table: fewer than 200 rows"),
    "column missing": (broken(lambda frame: frame.drop(columns="OverTime")), "OverTime: the column is missing"),
    "label missing": (broken(lambda frame: frame.drop(columns="Attrition")), "Attrition: the column is missing"),
    "extra column": (
        broken(lambda frame: frame.assign(Salary=1)),
        "Salary: the column is not expected",
    ),
    "column twice": (
        broken(lambda frame: pd.concat([frame, frame[["Age"]]], axis=1)),
        "Age: the column is there more than once",
    ),
    "text in a number": (cells("Age", 3, "forty"), "Age: 3 rows: not a number (lines 2, 3, 4)"),
    "fraction in a whole number": (cells("JobLevel", 1, 2.5), "JobLevel: 1 row: not a whole number (line 2)"),
    "number too small": (cells("Age", 2, 7), "Age: 2 rows: outside 16 to 100 (lines 2, 3)"),
    "number too large": (cells("WorkLifeBalance", 7, 9), "7 rows: outside 1 to 4 (lines 2, 3, 4, 5, 6, ...)"),
    "infinite number": (
        cells("MonthlyIncome", 1, "inf"),
        "MonthlyIncome: 1 row: infinite, or beyond 1.8e308 (line 2): 'inf'",
    ),
    "unknown category": (
        cells("Department", 4, "Legal"),
        "Department: 4 rows: not one of Human Resources, Research & Development, Sales",
    ),
    "other label": (cells("Attrition", 2, "Maybe"), "Attrition: 2 rows: not one of Yes, No"),
    "label empty": (cells("Attrition", 5, None), "Attrition: 5 rows: the value is missing"),
    "employee number empty": (cells("EmployeeNumber", 1, None), "EmployeeNumber: 1 row: the value is missing"),
    "employee number twice": (
        broken(lambda frame: pd.concat([frame, frame.iloc[[0, 5]]])),
        "table: 2 rows: EmployeeNumber occurs more than once (lines 602, 603)",
    ),
    "column without values": (cells("DailyRate", 600, None), "table: DailyRate has no value at all"),
    "one class only": (
        cells("Attrition", 600, "No"),
        "table: Attrition is Yes in fewer than 25 rows: both outcomes are needed",
    ),
    "hold-out without leavers": (
        broken(lambda frame: without_leavers_in_holdout(frame)),
        "table: only 0 leavers fall into the hold-out",
    ),
    "too few rows": (broken(lambda frame: frame.head(120)), "table: fewer than 200 rows: too little to train"),
}


@pytest.mark.parametrize(("write", "message"), FAULTS.values(), ids=FAULTS)
def test_bad_file_is_refused_and_says_why(write, message, synthetic_frame, tmp_path):
    path = tmp_path / "employees.csv"
    write(synthetic_frame, path)
    with pytest.raises(DataError) as refused:
        read_table(ATTRITION, str(path))
    assert message in str(refused.value)
    assert str(path) in str(refused.value)
    assert "nothing is trained or registered" in str(refused.value)


def test_bad_file_is_told_with_all_its_faults_at_once(synthetic_frame, tmp_path):
    frame = synthetic_frame.astype(object).drop(columns="JobRole")
    frame.loc[frame.index[:2], "Age"] = "x"
    frame.loc[frame.index[:9], "OverTime"] = "often"
    frame["Extra"] = 1
    frame.to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(DataError, match="has 4 faults") as refused:
        read_table(ATTRITION, str(tmp_path / "bad.csv"))
    assert [(fault.column, fault.rows) for fault in refused.value.faults] == [
        ("JobRole", None),
        ("Extra", None),
        ("OverTime", 9),
        ("Age", 2),
    ]


def test_parquet_that_is_none_is_refused(tmp_path):
    path = tmp_path / "employees.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"cannot be read as CSV .* or Parquet"):
        read_table(ATTRITION, str(path))


def test_location_that_is_empty_is_refused():
    with pytest.raises(DataError, match="no location is given: set the parameter data"):
        read_table(ATTRITION, "")


def test_real_file_with_byte_order_mark_is_read(real_data, real):
    assert real_data.read_bytes().startswith(b"\xef\xbb\xbf")
    assert real.x.shape == (1470, len(ATTRITION.features))
    assert real.y.sum() == 237
    assert not np.isnan(real.x).any()


def test_same_data_as_csv_and_parquet_has_the_same_digest(synthetic, synthetic_frame, tmp_path):
    synthetic_frame.to_parquet(tmp_path / "employees.parquet", index=False)
    other = read_table(ATTRITION, str(tmp_path / "employees.parquet"))
    assert other.digest == synthetic.digest
    np.testing.assert_array_equal(other.x, synthetic.x)


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.parquet"])
def test_file_at_an_address_is_the_file(synthetic_frame, tmp_path, name):
    """Such as abfss://, which the job's environment brings the client for; here it is memory."""
    import fsspec

    local = tmp_path / name
    write = synthetic_frame.to_parquet if name.endswith("parquet") else synthetic_frame.to_csv
    write(local, index=False)
    address = f"memory://{tmp_path.name}/{name}"
    with fsspec.open(address, "wb") as file:
        file.write(local.read_bytes())
    at_address, here = (read_table(ATTRITION, str(place)) for place in (address, local))
    assert at_address.digest == here.digest
    with pytest.raises(DataError, match="does not exist where the job runs"):
        read_table(ATTRITION, f"{address}-missing.csv")


def test_changed_value_changes_the_digest(synthetic, synthetic_frame, tmp_path):
    changed = synthetic_frame.copy()
    changed.loc[changed.index[-1], "Age"] = 61
    changed.to_csv(tmp_path / "changed.csv", index=False)
    assert read_table(ATTRITION, str(tmp_path / "changed.csv")).digest != synthetic.digest


def test_missing_feature_values_are_accepted_as_missing(synthetic_frame, tmp_path):
    frame = synthetic_frame.astype(object)
    frame.loc[frame.index[:5], ["DailyRate", "Department"]] = None
    frame.to_csv(tmp_path / "gaps.csv", index=False)
    x = read_table(ATTRITION, str(tmp_path / "gaps.csv")).x
    assert np.isnan(x).sum() == 10


def test_curated_table_with_technical_columns_and_periods_is_read(synthetic_frame, tmp_path):
    frame = synthetic_frame.assign(source="original", effective_date=pd.Timestamp("2026-01-01"))
    later = frame.head(50).assign(source="inference", effective_date=pd.Timestamp("2026-06-01"))
    later["Department"] = "Legal"  # the service accepts categories that it does not know
    table = pd.concat([later, frame]).sample(frac=1, random_state=1)
    (tmp_path / "curated").mkdir()
    table.iloc[:300].to_parquet(tmp_path / "curated" / "a.parquet", index=False)
    table.iloc[300:].to_parquet(tmp_path / "curated" / "b.parquet", index=False)
    employees = read_table(ATTRITION, str(tmp_path / "curated"))
    assert len(employees.frame) == 650
    assert (employees.x[:, 1] == -1).sum() == 50
    # Row order and digest must not depend on how the engine wrote the table.
    table.sample(frac=1, random_state=2).to_parquet(tmp_path / "one.parquet", index=False)
    assert read_table(ATTRITION, str(tmp_path / "one.parquet")).digest == employees.digest


def test_rows_of_recent_outcomes_are_known_after_a_snapshot_and_compared_on_alone(synthetic_frame, tmp_path):
    frame = synthetic_frame.assign(effective_date=None)
    later = synthetic_frame.assign(effective_date="2026-06-01")
    pd.concat([frame, later]).to_parquet(tmp_path / "curated.parquet", index=False)
    employees = read_table(ATTRITION, str(tmp_path / "curated.parquet"))
    assert employees.recent.sum() == len(later)
    write_snapshot(employees, tmp_path / "snapshot.parquet")
    again = read_snapshot(ATTRITION, tmp_path / "snapshot.parquet")
    assert again.digest == employees.digest
    np.testing.assert_array_equal(again.recent, employees.recent)
    holdout = again.take(holdout_rows(ATTRITION, again.groups))
    np.testing.assert_array_equal(compared_rows(holdout), holdout.recent)
    assert 0 < holdout.recent.sum() == len(holdout.y) / 2


def test_too_few_recent_rows_leave_the_comparison_on_all(synthetic_frame, tmp_path):
    frame = synthetic_frame.assign(effective_date=None)
    later = synthetic_frame.head(20).assign(effective_date="2026-06-01")
    pd.concat([frame, later]).to_parquet(tmp_path / "curated.parquet", index=False)
    assert compared_rows(read_table(ATTRITION, str(tmp_path / "curated.parquet"))).all()


def test_holdout_follows_from_the_employee_number_alone(synthetic):
    groups = synthetic.groups
    chosen = holdout_rows(ATTRITION, groups)
    assert abs(chosen.mean() - HOLDOUT_SHARE) < 0.06
    np.testing.assert_array_equal(holdout_rows(ATTRITION, groups[::-1]), chosen[::-1])
    np.testing.assert_array_equal(holdout_rows(ATTRITION, groups[100:]), chosen[100:])


def test_constant_identifying_and_protected_fields_are_in_requests_but_no_features():
    roles = {role: {field.name for field in ATTRITION.fields if field.role == role} for role in ("carried", "compared")}
    assert roles["carried"] == {"EmployeeCount", "StandardHours", "Over18", "EmployeeNumber"}
    assert roles["compared"] == {"Gender", "MaritalStatus", "Age"}
    assert len(ATTRITION.fields) == 34
    assert len(ATTRITION.features) == 27


def test_snapshot_gives_the_same_data_back(synthetic_frame, tmp_path):
    frame = synthetic_frame.astype(object)
    frame.loc[frame.index[:5], ["DailyRate", "Department"]] = None
    frame.to_csv(tmp_path / "gaps.csv", index=False)
    employees = read_table(ATTRITION, str(tmp_path / "gaps.csv"))
    write_snapshot(employees, tmp_path / "snapshot.parquet")
    again = read_snapshot(ATTRITION, tmp_path / "snapshot.parquet")
    assert again.digest == employees.digest
    np.testing.assert_array_equal(again.x, employees.x)
    assert again.columns()["Department"][0] is None


def renamed(use_case, before, after):
    """The definition with another name for a field, its key and its label where they have that name."""
    fields = tuple(
        msgspec.structs.replace(field, name=after) if field.name == before else field for field in use_case.fields
    )
    label = use_case.label
    return msgspec.structs.replace(
        use_case,
        fields=fields,
        key=after if use_case.key == before else use_case.key,
        label=msgspec.structs.replace(label, field=after if label.field == before else label.field),
    )


LEFT = msgspec.structs.replace(ATTRITION, label=msgspec.structs.replace(ATTRITION.label, positive="Left"))
OTHER_DEFINITIONS = {
    "label": (renamed(ATTRITION, "Attrition", "HasLeft"), "HasLeft: it is the label of the definition, and these rows"),
    "key": (renamed(ATTRITION, "EmployeeNumber", "Id"), "Id: it is the key of the definition, and these rows have no"),
    "values": (LEFT, r"Attrition: \d+ rows: not one of Left, No, .*: Yes; spell them as before"),
}


@pytest.mark.parametrize("case", OTHER_DEFINITIONS)
def test_snapshot_whose_key_or_label_the_definition_calls_otherwise_by_now_is_refused_with_what_to_do(
    case, synthetic, tmp_path
):
    use_case, said = OTHER_DEFINITIONS[case]
    write_snapshot(synthetic, tmp_path / "snapshot.parquet")
    with pytest.raises(DataError, match=said) as refused:
        read_snapshot(use_case, tmp_path / "snapshot.parquet", "of version 3")
    assert str(refused.value).startswith("the data file of version 3 has 1 fault; ")


@given(missing=st.sets(st.sampled_from(sorted(ATTRITION.columns))), kind=st.sampled_from(["csv", "parquet"]))
@settings(max_examples=25, deadline=None)
def test_whichever_columns_a_table_lacks_it_is_read_or_each_is_named(missing, kind, synthetic_frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / f"table.{kind}"
    table = synthetic_frame.drop(columns=[*missing])
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path, index=False)
    try:
        read_table(ATTRITION, str(path))
        told = set()
    except DataError as error:
        told = {fault.column for fault in error.faults if fault.message == "the column is missing"}
        told = set(ATTRITION.columns) if "none of the" in str(error) else told
    optional = {field.name for field in ATTRITION.fields if not field.feature and not field.required}
    assert missing - told <= optional - {ATTRITION.key}


def faults(path):
    with pytest.raises(DataError) as refused:
        read_table(ATTRITION, str(path))
    return [str(fault) for fault in refused.value.faults]


def lines(frame):
    header, *rows = frame.to_csv(index=False).splitlines()
    return header, rows


def test_lines_are_counted_as_an_editor_does_with_breaks_in_cells_blank_lines_and_rows_of_commas(
    synthetic_frame, tmp_path
):
    frame = synthetic_frame.astype(object)
    frame.loc[2, "Age"] = "forty"
    header, rows = lines(frame)
    note = rows[0].rpartition(",")
    rows[0] = f'{note[0]},"{note[2]}\n\n"'  # a cell with two line breaks: the row takes three lines
    text = "\n".join([header, rows[0], "", ",,,", *rows[1:]])
    (tmp_path / "a.csv").write_text(text)
    number = next(place for place, line in enumerate(text.split("\n"), 1) if "forty" in line)
    assert faults(tmp_path / "a.csv") == [f"Age: 1 row: not a number (line {number}): 'forty'"]


def test_keys_are_compared_as_values_and_told_once_with_both_places(synthetic_frame, tmp_path):
    header, rows = lines(synthetic_frame.assign(EmployeeNumber=range(1, 601)))
    place = header.split(",").index("EmployeeNumber")
    repeated = []
    for spelling in ("2", "2.0", "0002"):
        cells = rows[1].split(",")
        cells[place] = spelling
        repeated.append(",".join(cells))
    (tmp_path / "a.csv").write_text("\n".join([header, *rows, *repeated]))
    told = "table: 3 rows: EmployeeNumber occurs more than once (lines 602, 603, 604): '2', '2.0', '0002', which stood"
    assert faults(tmp_path / "a.csv") == [f"{told} in line 3 before"]


def test_ids_that_excel_shortened_are_explained(synthetic_frame, tmp_path):
    synthetic_frame.assign(EmployeeNumber="2.0E+10").to_csv(tmp_path / "a.csv", index=False)
    (told,) = faults(tmp_path / "a.csv")
    assert told.startswith(
        "table: 599 rows: EmployeeNumber occurs more than once (lines 3, 4, 5, 6, 7, ...): '2.0E+10'"
    )
    assert "Excel seems to have shortened long ids" in told


def test_blanks_around_a_cell_do_not_count_and_a_refused_value_is_shown(synthetic_frame, synthetic, tmp_path):
    frame = synthetic_frame.astype(object)
    frame["OverTime"] = frame["OverTime"] + " "
    frame["Attrition"] = " " + frame["Attrition"].str.upper() + "\u00a0"
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert read_table(ATTRITION, str(tmp_path / "a.csv")).digest == synthetic.digest
    frame.loc[0, ["OverTime", "MonthlyIncome"]] = ["Yes &amp; no", "$5,993"]
    frame.loc[1, "EmployeeNumber"] = 2**53
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert faults(tmp_path / "a.csv") == [
        "OverTime: 1 row: not one of No, Yes (line 2): 'Yes &amp; no'",
        "EmployeeNumber: 1 row: outside 0 to 9007199254740991 (line 3): '9007199254740992'",
        "MonthlyIncome: 1 row: not a number (line 2): '$5,993'; write digits and a point alone, such as 5993.5",
    ]


def test_wrong_labels_are_one_fault(synthetic_frame, tmp_path):
    frame = synthetic_frame.assign(Attrition=synthetic_frame["Attrition"].map({"Yes": "1", "No": "0"}))
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert faults(tmp_path / "a.csv") == [
        "Attrition: 600 rows: not one of Yes, No (lines 2, 3, 4, 5, 6, ...): "
        + ", ".join(map(repr, frame["Attrition"].unique()))
    ]


def test_columns_without_a_name_are_told_by_their_place(synthetic_frame, tmp_path):
    synthetic_frame.to_csv(tmp_path / "index.csv")
    message = "no name: write one in the header line, or remove what has none"
    assert faults(tmp_path / "index.csv") == [f"table: column 1 has {message}"]
    pd.read_csv(tmp_path / "index.csv").to_csv(tmp_path / "again.csv", index=False)
    assert faults(tmp_path / "again.csv") == [f"table: column 1 has {message}"]
    header, rows = lines(synthetic_frame)
    (tmp_path / "excel.csv").write_text("\n".join([f"{header},,", *(f"{row},," for row in rows)]))
    assert faults(tmp_path / "excel.csv") == [f"table: columns 36, 37 have {message}"]


def test_delta_table_is_read_without_the_rows_that_were_deleted_from_it(tmp_path):
    rows = make_rows(ATTRITION, 1470, 3)
    folder = str(tmp_path / "employees")
    write_deltalake(folder, rows)
    key = ATTRITION.key
    erased = sorted(rows[key])[:300]
    DeltaTable(folder).delete(f"{key} <= {erased[-1]}")
    number = next(field for field in ATTRITION.features if field.kind == "integer" and field.maximum)
    DeltaTable(folder).update({number.name: str(int(number.maximum))}, predicate=f"{key} > {erased[-1]}")
    found = read_table(ATTRITION, folder).frame
    assert len(pd.read_parquet(folder)) > 1470
    assert len(found) == 1170
    assert not set(found[key]) & set(erased)
    assert set(found[number.name]) == {number.maximum}


def test_file_of_a_delta_table_and_one_that_only_spark_reads_are_refused(synthetic_frame, tmp_path):
    folder = tmp_path / "employees"
    write_deltalake(str(folder), synthetic_frame)
    (told,) = faults(next(folder.glob("*.parquet")))
    assert told.startswith("file: it is a file of a Delta table, and may hold deleted rows: name the table's folder")
    (folder / "_delta_log" / "00000000000000000001.json").write_text(
        '{"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], '
        '"writerFeatures": ["deletionVectors"]}}'
    )
    (told,) = faults(folder)
    assert told.startswith("file: it is a Delta table that cannot be read without Spark (")
    assert told.endswith("write its current rows to a Parquet file, and name that")
    (folder / "_delta_log" / "00000000000000000001.json").write_text("no log")
    (told,) = faults(folder)
    assert told.startswith("file: it is a Delta table that cannot be read without Spark (")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.xlsx", b"PK", "file: it is a workbook of a spreadsheet: save it as CSV UTF-8"),
        (
            "a.csv",
            b"PK\x03\x04\x14",
            "file: it is a zip archive or a workbook of a spreadsheet: unpack it, or save it as",
        ),
        (
            "a.csv.gz",
            gzip.compress(b"PK\x03\x04\x14", mtime=0),
            "file: it is a zip archive or a workbook of a spreadsheet",
        ),
        ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1", "file: it is a workbook of a spreadsheet: save it as CSV UTF-8"),
        ("a.csv", gzip.compress(b"Age", mtime=0), "file: it is compressed with gzip: let its name end in .csv.gz"),
        ("a.csv", b"PAR1\x15\x04", "file: it is a Parquet file: let its name end in .parquet"),
        ("a.csv", "Age,Attrition".encode("utf-16-le"), "file: it is in UTF-16 or UTF-32: save it as CSV UTF-8"),
        ("a.csv", "Age,Attrition".encode("utf-16-be"), "file: it is in UTF-16 or UTF-32: save it as CSV UTF-8"),
        ("a.csv.zip", b"PK", "file: it is an archive or a compressed file: unpack it; only .csv.gz is read as it is"),
        ("a.tgz", b"", "file: it is an archive or a compressed file: unpack it"),
        ("a.txt", b"Age,Attrition", "it is not a Parquet file, or not all of one"),
        ("a.parquet", b"PAR1 and nothing PAR1", "it is not a Parquet file, or not all of one"),
        ("a.csv.gz", b"Age", "file: it is not compressed with gzip, as its name says: name it .csv"),
        ("a.csv", b'Age,Attrition\n41,"Yes\n42,No\n', "a quotation mark is opened here and never closed (line 2)"),
        ("a.csv", b'Age,Attrition\n41,"Ye"s\n', "a quotation mark within a cell: write it twice"),
        ("a.csv", b"Age,Attrition\n41,Yes\n42,\xff\n", "file: it is not UTF-8 text (line 3): save it as CSV UTF-8"),
    ],
)
def test_what_a_library_says_is_told_in_words_of_people(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    (told,) = faults(tmp_path / name)
    assert words in told


@pytest.mark.parametrize("content", [None, "_SUCCESS", ".part-0.parquet.crc"])
def test_folder_without_files_is_told_so(content, tmp_path):
    folder = tmp_path / "table.parquet"
    folder.mkdir()
    if content:
        (folder / content).write_text("")
    (told,) = faults(folder)
    assert told == "file: the folder holds no files: name the folder that holds the Parquet files"


def test_file_may_be_named_in_capitals_and_compressed_and_its_columns_spelled_in_other_ways(
    synthetic_frame, synthetic, tmp_path
):
    other = synthetic_frame.rename(columns={"EmployeeNumber": "employee_number", "Age": " AGE"})
    other.to_csv(tmp_path / "A.CSV", index=False)
    other.to_csv(tmp_path / "a.csv.gz", index=False)
    assert read_table(ATTRITION, str(tmp_path / "A.CSV")).digest == synthetic.digest
    assert read_table(ATTRITION, str(tmp_path / "a.csv.gz")).digest == synthetic.digest
    synthetic_frame.assign(employee_number=1).to_parquet(tmp_path / "a.parquet", index=False)
    message = "EmployeeNumber: the column is there more than once (EmployeeNumber, employee_number)"
    assert faults(tmp_path / "a.parquet") == [message]


def test_text_in_place_of_a_number_is_refused_in_parquet_with_what_to_write(synthetic_frame, tmp_path):
    synthetic_frame.assign(Age=synthetic_frame["Age"].astype(str)).to_parquet(tmp_path / "a.parquet", index=False)
    (told,) = faults(tmp_path / "a.parquet")
    assert told.startswith("Age: 600 rows: not a number (rows 1, 2, 3, 4, 5, ...): ")
    assert told.endswith("without quotes")


def test_outcome_that_falls_into_the_holdout_alone_is_refused_before_anything_is_tuned(synthetic_frame, tmp_path):
    frame = synthetic_frame.copy()
    held_out = holdout_rows(ATTRITION, frame["EmployeeNumber"].to_numpy(int))
    frame["Attrition"] = np.where(held_out, "Yes", "No")
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert faults(tmp_path / "a.csv") == [
        "table: only 0 leavers fall outside the hold-out: too few to train on; give more rows",
        "table: only 0 stayers fall into the hold-out: too few to judge a model by; give more rows",
    ]


def test_days_tell_rows_of_one_key_apart_as_values(synthetic_frame, tmp_path):
    twice = pd.concat([synthetic_frame.assign(effective_date="2026-06-01"),
                       synthetic_frame.head(1).assign(effective_date="2026-06-01T00:00:00+02:00")])  # fmt: skip
    twice.to_csv(tmp_path / "a.csv", index=False)
    assert "EmployeeNumber occurs more than once (line 602)" in faults(tmp_path / "a.csv")[0]
    twice.assign(effective_date="1.6.2026").to_csv(tmp_path / "a.csv", index=False)
    assert "effective_date: 601 rows: not a date such as 2026-09-30" in faults(tmp_path / "a.csv")[0]
