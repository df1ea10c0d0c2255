"""A table in, two partitions out: the same answers as the server's, every row in one of them, whatever is killed."""

import gzip
import hashlib
import itertools
import json
import shutil
import subprocess
import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.scoring import csv_lines
from serving.scoring.bundle import Bundle, NoReasonsError
from serving.scoring.contract import REASONS_FILE
from serving.scoring.records import RecordReader
from serving.scoring.spelling import Refusal, hold, typed
from tests.support.bundles import make_bundle
from training.batch import source, tables
from training.batch.record import read_batch
from training.batch.run import score_table
from training.batch.score import Pinned, score_rows
from training.data.data_error import DataError
from training.data.synthetic import make_rows
from training.use_case import load

DAY = date(2026, 11, 2)
PINNED = Pinned("7", "sha256:" + "a" * 64)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "bundle", 1)


@pytest.fixture(scope="module")
def frame():
    use_case = load("attrition")
    return make_rows(use_case, 1_000, 5).drop(columns=[use_case.label.field])


def score(bundle, location, folder, pinned=PINNED):
    return score_table(load("attrition"), bundle, pinned, str(location), folder, DAY)


def scores(folder):
    return pq.read_table(folder / "scores" / f"day={DAY}")


def rejected(folder):
    return pq.read_table(folder / "rejected_rows" / f"day={DAY}").to_pylist()


def written(folder):
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_batch_answers_as_the_server_does(bundle, frame, tmp_path):
    frame.to_parquet(tmp_path / "in.parquet")
    batch = score(bundle, tmp_path / "in.parquet", tmp_path / "tables")
    assert (batch.rows, batch.scored, batch.rejected) == (1_000, 1_000, 0)
    loaded = Bundle.load(bundle)
    body = msgspec.json.encode(json.loads(frame.to_json(orient="records")))
    online = loaded.score_fields(RecordReader(loaded.contract).read(body))
    found = scores(tmp_path / "tables")
    np.testing.assert_allclose(found["prediction"], online.classifier__predictions, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["outlier_score"], online.outliers__score, rtol=0, atol=1e-6)
    assert found["is_outlier"].to_pylist() == online.outliers__is_outlier
    assert batch.outliers == sum(online.outliers__is_outlier)
    assert set(found["model_version"].to_pylist()) == {"7"}
    assert set(found["bundle_digest"].to_pylist()) == {PINNED.bundle_digest}
    assert found["row"].to_pylist() == list(range(1, 1_001))


def test_text_and_typed_tables_give_the_same_scores(bundle, frame, tmp_path):
    frame.to_csv(tmp_path / "in.csv", index=False)
    frame.to_parquet(tmp_path / "in.parquet")
    score(bundle, tmp_path / "in.csv", tmp_path / "text")
    score(bundle, tmp_path / "in.parquet", tmp_path / "typed")
    assert scores(tmp_path / "text").equals(scores(tmp_path / "typed"))


def test_bad_rows_are_rejected_with_their_reasons_and_all_others_are_scored(bundle, frame, tmp_path):
    use_case = load("attrition")
    number = next(field for field in use_case.features if field.kind == "integer")
    category = next(field for field in use_case.features if field.kind == "category")
    spoilt = frame.astype(object)
    spoilt.loc[3, number.name] = "many"
    spoilt.loc[10, number.name] = number.maximum + 1
    spoilt.loc[10, category.name] = "x" * 200
    spoilt.loc[12, category.name] = "a category that nobody knows"
    spoilt.to_csv(tmp_path / "in.csv", index=False)
    batch = score(bundle, tmp_path / "in.csv", tmp_path / "tables")
    assert (batch.rows, batch.scored, batch.rejected) == (1_000, 998, 2)
    first, second = rejected(tmp_path / "tables")
    assert (first["row"], first["key"]) == (4, str(frame[use_case.key][3]))
    assert first["reasons"] == f"{number.name}: not a number (given: 'many')"
    assert number.name in second["reasons"]
    assert category.name in second["reasons"]
    assert json.loads(second["record"])[category.name] == "x" * 200
    assert scores(tmp_path / "tables")["row"].to_pylist() == [n for n in range(1, 1_001) if n not in (4, 11)]


def test_line_with_a_cell_too_many_is_one_rejected_row(bundle, frame, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_CSV_CHARACTERS", 20_000)
    lines = frame.to_csv(index=False).splitlines()
    lines[5] += ",more"
    lines[700] += ",more"
    lines[8] += ",,"  # commas of a spreadsheet
    lines.append("1,2")
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    batch = score(bundle, tmp_path / "in.csv", tmp_path / "tables")
    assert (batch.rows, batch.scored, batch.rejected) == (1_001, 998, 3)
    assert [row["row"] for row in rejected(tmp_path / "tables")] == [5, 700, 1_001]
    assert rejected(tmp_path / "tables")[0]["reasons"] == "more cells than the header has columns (34)"
    # A short line is a row whose last values are missing; what it says in the others is wrong.
    assert rejected(tmp_path / "tables")[2]["reasons"] == "Age: outside 16 to 100 (given: '1')"
    assert scores(tmp_path / "tables")["row"].to_pylist() == [n for n in range(1, 1_001) if n not in (5, 700)]


def test_commas_beyond_the_last_column_and_cells_left_out_at_the_end_are_taken_as_the_server_takes_them(
    bundle, frame, tmp_path
):
    """A spreadsheet pads every line, or none at all; the door, the feed and the server take both."""
    last = Bundle.load(bundle).contract.fields[-1].name
    lines = frame[[*(name for name in frame if name != last), last]].to_csv(index=False).splitlines()
    optional = next(field.name for field in Bundle.load(bundle).contract.fields if not field.required)
    without = frame[[*(name for name in frame if name != optional), optional]].to_csv(index=False).splitlines()
    texts = {
        "plain": lines,
        "padded": [f"{line},," for line in lines],
        "padded rows": [lines[0], *(f"{line},," for line in lines[1:])],
        "no optional": [without[0], *(line.rpartition(",")[0] for line in without[1:])],
    }
    found = {}
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(text) + "\n")
        batch = score(bundle, tmp_path / f"{name}.csv", tmp_path / name)
        assert (batch.rows, batch.rejected) == (1_000, 0), name
        found[name] = scores(tmp_path / name)
    assert found["plain"].equals(found["padded"])
    assert found["plain"].equals(found["padded rows"])
    assert found["no optional"]["prediction"].to_pylist() == found["plain"]["prediction"].to_pylist()
    (tmp_path / "broken.csv").write_text(f"{lines[0]}\n{lines[1]},x\n")
    batch = score(bundle, tmp_path / "broken.csv", tmp_path / "broken")
    assert (batch.rows, batch.rejected) == (1, 1)


def test_cell_that_is_not_utf_8_costs_its_row_and_no_other(bundle, frame, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_CSV_CHARACTERS", 20_000)
    category = next(field.name for field in load("attrition").features if field.kind == "category")
    spoilt = frame.astype(object)
    spoilt.loc[[2, 699], category] = "M\xfcller"
    lines = spoilt.to_csv(index=False).splitlines()
    lines[5] += ",more"
    (tmp_path / "in.csv").write_bytes("\n".join(lines).encode("latin-1"))
    batch = score(bundle, tmp_path / "in.csv", tmp_path / "tables")
    assert (batch.rows, batch.scored, batch.rejected) == (1_000, 997, 3)
    found = rejected(tmp_path / "tables")
    assert [row["row"] for row in found] == [3, 5, 700]
    assert found[0]["reasons"] == f"{category}: not UTF-8 text: save the file as CSV UTF-8"
    assert "M\\xfcller" in found[0]["record"]
    assert scores(tmp_path / "tables")["row"].to_pylist() == [n for n in range(1, 1_001) if n not in (3, 5, 700)]


def test_line_that_no_cells_can_be_made_of_costs_itself_and_reading_goes_on_at_the_next_line_end(
    bundle, frame, tmp_path, monkeypatch
):
    monkeypatch.setattr(csv_lines, "_LINE", 200_000)
    monkeypatch.setattr(source, "_CSV_CHARACTERS", 20_000)
    lines = [line.encode() for line in frame.to_csv(index=False).splitlines()]
    lines[2] = b'"' + lines[2][:4] + b'"5' + lines[2][4:]
    lines[4] = b"x" * 140_000 + lines[4]
    lines[6] = lines[6].replace(b",", b" ") * 2_000
    lines[8] = b"M\xfcller," + lines[8] + b",more"
    lines[40] = b'"' + lines[40]
    (tmp_path / "in.csv").write_bytes(b"\n".join(lines))
    batch = score(bundle, tmp_path / "in.csv", tmp_path / "tables")
    found = rejected(tmp_path / "tables")
    assert [row["row"] for row in found] == [2, 4, 6, 8, 40]
    assert [row["reasons"].partition(":")[0] for row in found] == [
        "a quotation mark within a cell",
        "a cell of more than 131,072 characters",
        "a line of more than 200,000 characters",
        "more cells than the header has columns (34)",
        "a cell of more than 131,072 characters",
    ]
    assert found[0]["record"].encode() == lines[2] + b"\n"
    assert found[3]["record"].startswith("M\\xfcller,")
    # What an open quotation mark swallows ends where a cell may not be longer, and so the last rows are scored.
    assert batch.scored == batch.rows - 5
    key = load("attrition").columns[load("attrition").key]
    assert scores(tmp_path / "tables")[key].to_pylist()[-1] == frame[load("attrition").key].iloc[-1]


def test_compressed_file_that_breaks_off_is_refused_as_a_whole(bundle, frame, tmp_path):
    whole = gzip.compress(frame.to_csv(index=False).encode())
    for number, content in enumerate((whole[:-20], whole[:2_000] + bytes(50) + whole[2_050:])):
        (tmp_path / f"{number}.csv.gz").write_bytes(content)
        with pytest.raises(DataError, match="it cannot be read to its end as csv"):
            score(bundle, tmp_path / f"{number}.csv.gz", tmp_path / "tables")
    (tmp_path / "whole.csv.gz").write_bytes(whole)
    assert score(bundle, tmp_path / "whole.csv.gz", tmp_path / "tables").scored == 1_000


def test_table_without_a_required_column_is_refused_whole(bundle, frame, tmp_path):
    required = next(field.name for field in Bundle.load(bundle).contract.fields if field.required)
    frame.drop(columns=[required]).to_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match=rf"nothing is scored:\n  - {required}: the column is missing"):
        score(bundle, tmp_path / "in.parquet", tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_columns_that_the_model_does_not_know_are_left_out_and_named(bundle, frame, tmp_path):
    frame.assign(desk="A1").to_parquet(tmp_path / "in.parquet")
    batch = score(bundle, tmp_path / "in.parquet", tmp_path / "tables")
    assert batch.left_out == ("desk",)
    assert "desk" in batch.note


def test_values_of_every_type_of_a_table_are_taken_as_the_table_of_spellings_says(bundle, frame):
    use_case, loaded = load("attrition"), Bundle.load(bundle)
    number = next(field for field in use_case.features if field.kind == "integer" and not field.minimum)
    word = next(field for field in use_case.features if field.kind == "category")
    first = frame.head(1).to_dict("records")[0]
    for name, value in itertools.product(
        (number.name, word.name),
        (1, 1.0, 1.5, True, None, "1", "x", Decimal(1), date(2026, 9, 30), datetime(2026, 9, 30, 1), [1], {"a": 1}),
    ):
        field = {number.name: number, word.name: word}[name]
        try:
            hold(expected := typed(value, field), field)
        except Refusal as refusal:
            expected = f"{name}: {refusal}"
        rows = pa.RecordBatch.from_pylist([{**first, name: value}])
        done = score_rows(loaded, use_case, PINNED, rows, as_text=False)
        told = done.rejected["reasons"].to_pylist() or done.scores[use_case.columns[name]].to_pylist()
        assert str(told[0]).split(" (given")[0] == str(expected) or told[0] == expected, (name, value)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_are_found_as_the_training_file_spells_them(bundle, frame, tmp_path, suffix):
    key = load("attrition").key
    frame.to_parquet(tmp_path / "in.parquet")
    score(bundle, tmp_path / "in.parquet", tmp_path / "expected")
    other = frame.rename(columns={key: "employee_number"}).rename(columns=str.lower)
    getattr(other, f"to_{suffix}")(tmp_path / f"other.{suffix}", index=False)
    score(bundle, tmp_path / f"other.{suffix}", tmp_path / "tables")
    assert scores(tmp_path / "tables").equals(scores(tmp_path / "expected"))
    twice = frame.assign(employee_number=1)
    getattr(twice, f"to_{suffix}")(tmp_path / f"twice.{suffix}", index=False)
    with pytest.raises(
        DataError, match=f"{key}: the columns {key}, employee_number are all this one: keep one of them"
    ):
        score(bundle, tmp_path / f"twice.{suffix}", tmp_path / "tables")


def test_delta_table_is_read_as_it_is_now_and_not_as_its_files_lie_there(bundle, frame, tmp_path):
    from deltalake import DeltaTable, write_deltalake

    key = load("attrition").key
    write_deltalake(str(tmp_path / "people"), frame)
    DeltaTable(str(tmp_path / "people")).delete(f"{key} = {frame[key][0]}")
    batch = score(bundle, tmp_path / "people", tmp_path / "tables")
    assert batch.rows == 999
    assert int(frame[key][0]) not in scores(tmp_path / "tables")[load("attrition").columns[key]].to_pylist()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("nothing.parquet", None, "it does not exist where the job runs"),
        ("people.xlsx", b"PK", "its name ends in none of"),
        ("people.parquet", b"not parquet", "it cannot be read to its end as parquet"),
        ("people.csv", b"a,b\n1,2\n", "the column is missing"),
        ("people.csv", b"PK\x03\x04", "it is a zip archive or a workbook of a spreadsheet"),
        ("people.csv", "a,b\n".encode("utf-16"), "it is in UTF-16 or UTF-32: save it as CSV UTF-8"),
        ("people.csv", b"", "it is empty: a header line and one line for each record are expected"),
        ("people.csv", b"a,b", "the column is missing"),
        ("people.csv", "a,b\u00fc\n1,2\n".encode("latin-1"), "its header line cannot be read: not UTF-8 text"),
        (
            "people.csv",
            b'a,"b\n1,2\n',
            "its header line cannot be read: a quotation mark is opened here and never closed",
        ),
        ("people.csv.gz", b"a,b", "it cannot be read to its end as csv .Not a gzipped file"),
    ],
)
def test_table_that_cannot_be_read_is_one_clear_error(bundle, tmp_path, name, content, expected):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=expected):
        score(bundle, tmp_path / name, tmp_path / "tables")


def test_empty_table_makes_two_empty_partitions(bundle, frame, tmp_path):
    frame.head(0).to_parquet(tmp_path / "in.parquet")
    batch = score(bundle, tmp_path / "in.parquet", tmp_path / "tables")
    assert (batch.rows, scores(tmp_path / "tables").num_rows, rejected(tmp_path / "tables")) == (0, 0, [])


def test_a_date_is_replaced_whole_and_the_same_bytes_come_again(bundle, frame, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "PART_ROWS", 64)
    monkeypatch.setattr(tables, "_ROW_GROUP", 300)
    frame.to_parquet(tmp_path / "in.parquet")
    score(bundle, tmp_path / "in.parquet", tmp_path / "tables")
    first = written(tmp_path / "tables")
    frame.head(10).to_parquet(tmp_path / "other.parquet")
    score(bundle, tmp_path / "other.parquet", tmp_path / "tables", Pinned("8", "sha256:" + "b" * 64))
    assert scores(tmp_path / "tables").num_rows == 10
    assert read_batch(tmp_path / "tables", DAY).version == "8"
    score(bundle, tmp_path / "in.parquet", tmp_path / "tables")
    assert written(tmp_path / "tables") == first


KILLED = """
import os, shutil, sys
from datetime import date
from pathlib import Path
from training.batch.run import score_table
from training.batch.score import Pinned, score_rows
from training.use_case import load

bundle, table, older, home = map(Path, sys.argv[1:])

def count(event, _):
    global left
    if event in ("os.rename", "open", "shutil.rmtree", "os.mkdir", "os.remove", "os.rmdir"):
        left -= 1
        if left == 0:
            os._exit(9)

# A process each, which has not to import everything again.
for left in range(1, 400, 5):
    folder = home / f"tables-{left:03d}"
    shutil.copytree(older, folder)
    if not (child := os.fork()):
        sys.addaudithook(count)
        score_table(load("attrition"), bundle, Pinned("7", "sha256:" + "a" * 64), str(table), folder, date(2026, 11, 2))
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(folder, ended)
    if not ended:
        break
"""


def test_killed_anywhere_and_run_again_leaves_the_same_tables(bundle, frame, tmp_path):
    """The process dies at every fifth thing that it does to the file system, after an older batch of the date."""
    table = tmp_path / "in.parquet"
    frame.to_parquet(table)
    score(bundle, table, tmp_path / "expected")
    expected = written(tmp_path / "expected")
    frame.head(10).to_parquet(tmp_path / "older.parquet")
    score(bundle, tmp_path / "older.parquet", tmp_path / "older")
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, bundle, table, tmp_path / "older", tmp_path],
        cwd=root, timeout=120, check=True, capture_output=True, text=True,
    )  # fmt: skip
    *killed, whole = (line.rsplit(" ", 1) for line in done.stdout.splitlines())
    assert whole[1] == "0"
    assert len(killed) >= 3
    for folder, ended in killed:
        assert ended == "9"
        score(bundle, table, Path(folder))
        assert written(Path(folder)) == expected


def test_reasons_on_request_are_those_of_the_registered_model(bundle, frame, tmp_path, monkeypatch):
    from training.registry.pyfunc_model import ScoringModel

    monkeypatch.setattr("serving.scoring.explain.NAMED", len(frame.columns))
    asked = frame.head(30).astype(object)
    asked.loc[3, [field.name for field in load("attrition").features if field.kind == "category"]] = "nobody knows it"
    asked.to_parquet(tmp_path / "in.parquet")
    score(bundle, tmp_path / "in.parquet", tmp_path / "tables", msgspec.structs.replace(PINNED, explain=True))
    found = scores(tmp_path / "tables").to_pandas()
    model = ScoringModel()
    model.load_context(SimpleNamespace(artifacts={"bundle": str(bundle)}))
    expected = model.predict(None, asked, {"explain": True})
    assert found["reasons"].tolist() == expected["reasons"].tolist()
    assert "'nobody knows it', which the model does not know" in found["reasons"][3]
    effects = [sum(reason["effect"] for reason in json.loads(text)) for text in found["reasons"]]
    log_odds = found["base"] + found["other"] + effects
    np.testing.assert_allclose(1 / (1 + np.exp(-log_odds)), found["prediction"], rtol=0, atol=1e-6)


def test_reasons_of_a_model_that_has_none_are_refused_before_anything_is_written(bundle, frame, tmp_path):
    without = tmp_path / "bundle"
    shutil.copytree(bundle, without, ignore=shutil.ignore_patterns(REASONS_FILE))
    frame.to_parquet(tmp_path / "in.parquet")
    with pytest.raises(NoReasonsError, match="version 7 gives no reasons: score without explain"):
        score(without, tmp_path / "in.parquet", tmp_path / "tables", msgspec.structs.replace(PINNED, explain=True))
    assert not (tmp_path / "tables").exists()
