"""Every reader of values is held to the one table of spellings, with values that are made here."""

import csv
import json
import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jsonschema
import msgspec
import numpy as np
import pandas as pd
import pytest

from serving.errors import ContractViolated
from serving.openapi import openapi_document
from serving.scoring import spelling
from serving.scoring.bundle import Bundle
from serving.scoring.contract import Field
from serving.scoring.encode import EncodeError, encode_checked, encode_fields
from serving.scoring.records import RecordReader
from serving.scoring.spelling import LARGEST_WHOLE, TABLE, Concept, Refusal
from serving.settings import Release, Settings
from serving.validation import reread
from tests.support.bundles import make_dataset
from training.data.read_file import read_raw
from training.data.table import split_table
from training.data.validation import refusals
from training.export.bundle import write_bundle
from training.export.outliers import Outliers
from training.inference_log.outcomes_feed import read_feed
from training.inference_log.sql_engine import key_column
from training.scaffold.column import look_at
from training.search.ensemble import Member, StackedEnsemble
from training.search.space import space_of
from training.use_case import Binary, UseCase

SIZE = Field("size", "number", "Size", 1.5, minimum=-1e6, maximum=1e6)
ROOMS = Field("rooms", "integer", "Rooms", 2, minimum=-LARGEST_WHOLE, maximum=LARGEST_WHOLE, nullable=False)
HEATING = Field("heating", "category", "Heating", "gas", categories=("gas", "NA", "wood stove", "Öl"))
GARDEN = Field("garden", "category", "Garden", "true", categories=("false", "true"))
PLACE = Field("place", "category", "Number of the contract", "0007", role="carried", drift=False, nullable=False)
NUMBER = Field("number", "integer", "Number of the flat", 7, role="carried", drift=False, required=False,
               minimum=-LARGEST_WHOLE, maximum=LARGEST_WHOLE)  # fmt: skip
FLATS = UseCase(
    name="spelled",
    title="Spelled",
    description="Values of every concept.",
    owner="tests",
    fields=(SIZE, ROOMS, HEATING, GARDEN, PLACE, NUMBER),
    label=Binary("left", "Yes", "No"),
    key="number",
    purpose="It shows spellings.",
    misuse="Nothing else.",
)
BY_PLACE = msgspec.structs.replace(FLATS, key="place")
RECORD: dict[str, Any] = {field.name: field.example for field in FLATS.fields}
COUNTS = [300, pytest.param(10_000, marks=pytest.mark.fuzz)]


class Told(NamedTuple):
    """What a reader says of a value: the value, or the reason why not."""

    value: Any = None
    reason: str = ""


def told(read: Callable[[], Any]) -> Told:
    try:
        return Told(read())
    except Refusal as refusal:
        return Told(reason=refusal.reason)


def by_table(value: Any, field: Field, *, as_text: bool) -> Told:
    def read() -> Any:
        found = spelling.text(value, field) if as_text else spelling.typed(value, field)
        spelling.hold(found, field)
        return found

    return told(read)


# --- values ---


def a_number(rng: random.Random) -> Any:
    return rng.choice(
        [
            rng.randint(-10, 10), rng.randint(-(10**6), 10**6), float(rng.randint(-9, 9)), rng.uniform(-1e6, 1e6),
            rng.uniform(-10, 10), -0.0, 0.1 + 0.2, 5e-324, 1e-400, 1e3, 2.5, 1e6, 1e6 + 0.1, 1e308, -1e22,
            rng.randint(2**53 - 3, 2**53 + 3), -rng.randint(2**53 - 3, 2**53 + 3), float(2**53), 12345678901234567890,
            10**30,
        ]
    )  # fmt: skip


def a_text(rng: random.Random) -> str:
    known = ["gas", "NA", "wood stove", "Öl", "true", "false", "Yes", "No"]
    letters = "abYN 01.,-_\u00a0é"
    made = "".join(rng.choice(letters) for _ in range(rng.randint(0, 6)))
    other = [
        "GAS",
        "TRUE",
        "False",
        "yes",
        "0007",
        "7",
        "7.0",
        "n/a",
        "null",
        "None",
        "",
        "x" * 128,
        "x" * 129,
        "2.0E+10",
    ]
    word = rng.choice([rng.choice(known), rng.choice(other), made])
    return rng.choice([word, word, f" {word}", f"{word}  ", word.swapcase()])


def a_day(rng: random.Random) -> Any:
    moment = datetime(2026, 1, 1) + timedelta(seconds=rng.choice([0, 86400, rng.randint(0, 10**8)]))
    zone = rng.choice([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=8))])
    zoned = moment.replace(tzinfo=zone)
    wrong = ["31.3.2026", "46295", "2026-02-30", "", "yes", datetime(9999, 12, 31, 23, 59, tzinfo=zone)]
    texts = [moment.isoformat(), str(moment), zoned.isoformat(), moment.date().isoformat()]
    return rng.choice([moment.date(), moment, zoned, date(9999, 12, 31), *texts, *wrong])


def spelled(number: Any, rng: random.Random) -> str:
    """A number as somebody may write it into a file."""
    text = repr(number)
    ways = [text, f" {text} ", f"{text}\u00a0", text.replace("e", "E")]
    if isinstance(number, int):
        ways += [
            f"{text}.0",
            f"{text}.",
            f"{text}e0",
            text if number < 0 else f"000{text}",
            text if number < 0 else f"+{text}",
        ]
    elif "e" not in text:
        ways += [f"{text}0", text.removesuffix(".0")]
    return rng.choice(ways)


JUNK = ["1,000", "$5,993", "1_000", "0x1f", "٣", "1e", "e5", "--1", "1 000", "41%", ".", "+", "inf", "-Infinity", "NaN",
        "NA", "", "  ", "null", "true", "1e9999", "1.5.2", "½", "1\u2009000", "nan "]  # fmt: skip


def typed_value(field: Field, rng: random.Random) -> Any:
    number, text = a_number(rng), a_text(rng)
    own, other = (text, number) if field.kind == "category" else (number, text)
    return rng.choice([own, own, own, own, other, True, False, None, str(number)])


def cell(field: Field, rng: random.Random) -> str:
    if field.kind == "category":
        return a_text(rng)
    return rng.choice([spelled(a_number(rng), rng)] * 4 + [rng.choice(JUNK), a_text(rng)])


# --- readers ---


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("spelled") / "bundle"
    dataset, space = make_dataset(FLATS, 600, 1), space_of(FLATS)
    ensemble = StackedEnsemble(space, [Member(space.starting_points[0], 1.0)], 0.0, 1).fit(dataset.x, dataset.y)
    write_bundle(folder, "spelled", ensemble, Outliers(1).fit(dataset.x), dataset)
    return Bundle.load(folder)


def code(value: Any, field: Field) -> float:
    """The number that a value becomes in the matrix."""
    return float(encode_fields({field.name: [value]}, SimpleNamespace(fields=(field,)))[0, 0])


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def by_server(body: bytes, position: int, bundle: Bundle, reader: RecordReader) -> Told:
    """The server: its fast reader, and where that refuses the slow one, which finds the faults."""
    try:
        return Told(float(reader.read(body)[0, position]))
    except msgspec.ValidationError as error:
        try:
            return Told(float(reread(body, bundle.contract, error)[0][0, position]))
        except ContractViolated as problem:
            return Told(reason="refused" if problem.total == 1 else f"{problem.total} faults")


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("field", FLATS.fields, ids=lambda field: field.name)
def test_server_openapi_and_batch_take_the_same_typed_values(field: Field, count: int, bundle: Bundle) -> None:
    from training.registry.pyfunc_model import ScoringModel

    rng = random.Random(f"{field.name} {count}")
    position = [one.name for one in FLATS.fields].index(field.name)
    reader = RecordReader(bundle.contract)
    document = json.loads(
        openapi_document(bundle.contract, Release("spelled", "1", ""), Settings(bundle=""), gives_reasons=True)
    )
    schema = jsonschema.Draft202012Validator(document["components"]["schemas"]["Record"])
    model = ScoringModel()
    model.bundle = bundle
    taken, refused = [], []
    for _ in range(count):
        value = typed_value(field, rng)
        expected = by_table(value, field, as_text=False)
        record = RECORD | {field.name: value}
        body = json.dumps([record]).encode()
        served = by_server(body, position, bundle, reader)
        assert served.reason == ("refused" if expected.reason else ""), (value, expected, served)
        assert schema.is_valid(record) == (not expected.reason), (value, expected)
        if expected.reason:
            with pytest.raises(EncodeError, match=f"{field.name}: 1 row, .*{expected.reason[:20]}"):
                encode_checked({name: [one] for name, one in record.items()}, bundle.contract)
            refused.append(record)
        else:
            assert same(served.value, code(expected.value, field)), (value, expected, served)
            taken.append(record)
    with pytest.raises(EncodeError, match=f"{field.name}: {len(refused)} rows, the first is row 0"):
        model.predict(None, _frame(refused))
    online = bundle.score_fields(np.concatenate([_matrix(reader, bundle, one) for one in taken]))
    assert model.predict(None, _frame(taken))["classifier__predictions"].tolist() == online.classifier__predictions


def _frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series([one[name] for one in records], dtype=object) for name in RECORD})


def _matrix(reader: RecordReader, bundle: Bundle, record: dict[str, Any]) -> Any:
    body = json.dumps([record]).encode()
    try:
        return reader.read(body)
    except msgspec.ValidationError as error:
        return reread(body, bundle.contract, error)[0]


def by_door(file: Path, name: str) -> list[Told]:
    """The training door, row by row of a file that has one column of the use case beside a running number."""
    table = split_table(FLATS, read_raw(str(file)))
    refused = refusals(FLATS, table, name)
    values = (
        table.dates.tolist() if name == "effective_date" and table.dates is not None else table.frame[name].tolist()
    )
    return [Told(reason=refused[row].reason) if row in refused else Told(value) for row, value in enumerate(values)]


def at_the_door(value: Any, field: Field, *, as_text: bool) -> Told:
    """What the training file is asked beyond a request: listed categories alone, and a key. It may miss the rest, and
    hold a text of any length, which no model reads."""
    if field.kind == "category":
        expected = told(lambda: spelling.text(value, field) if as_text else spelling.typed(value, field))
    else:
        expected = by_table(value, field, as_text=as_text)
    if field.name == FLATS.key:
        return Told(reason="the value is missing") if expected == Told(None) else expected
    if expected.reason == "the value is missing":
        return Told(None)
    if field.categories and expected.value is not None and expected.value not in field.categories:
        return Told(reason=f"not one of {', '.join(field.categories)}")
    return expected


def assert_same(found: Sequence[Told], expected: Sequence[Told], given: Sequence[Any]) -> None:
    assert len(found) == len(expected)
    for one, other, value in zip(found, expected, given, strict=True):
        if one.reason or other.reason:
            assert one.reason == other.reason, (value, one, other)
        elif isinstance(other.value, float):
            assert same(one.value, other.value), (value, one, other)
        else:
            assert one.value == other.value or (one.value != one.value and other.value is None), (value, one, other)


def parquet_files(values: Sequence[Any], folder: Path, name: str) -> list[tuple[Path, list[Any]]]:
    """The values by type, for a Parquet column has one; whole numbers of more than 64 bits have no column."""
    groups: dict[Any, list[Any]] = {}
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
            continue
        zone = str(value.tzinfo) if isinstance(value, datetime) else ""
        groups.setdefault((type(value), zone), []).append(value)
    files = []
    for number, group in enumerate(groups.values()):
        frame = pd.DataFrame({"row": range(len(group)), name: pd.Series(group, dtype=object)})
        files.append((folder / f"{number}.parquet", group))
        frame.assign(**{name: frame[name].infer_objects()}).to_parquet(files[-1][0], index=False)
    return files


def write_csv(file: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    with file.open("w", newline="") as lines:
        csv.writer(lines, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    return file


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("field", FLATS.fields, ids=lambda field: field.name)
def test_training_door_takes_what_the_table_says(field: Field, count: int, tmp_path: Path) -> None:
    rng = random.Random(f"door {field.name} {count}")
    for file, group in parquet_files([typed_value(field, rng) for _ in range(count)], tmp_path, field.name):
        expected = [at_the_door(value, field, as_text=False) for value in group]
        assert_same(by_door(file, field.name), expected, group)
    cells = [cell(field, rng) for _ in range(count)]
    file = write_csv(tmp_path / "table.csv", ["row", field.name], [["1", one] for one in cells])
    assert_same(by_door(file, field.name), [at_the_door(one, field, as_text=True) for one in cells], cells)


def by_feed(file: Path, use_case: UseCase, name: str) -> list[Told]:
    """The outcomes feed, row by row."""
    key = key_column(use_case)
    assert key is not None
    outcomes, rejected = read_feed(file.parent, [file.name], key, use_case.label)
    where = {use_case.key: "key", use_case.label.field: "label", "effective_date": "effective_date"}[name]
    found = {one.row: Told(getattr(one, where)) for one in outcomes}
    for one in rejected:
        assert one.row > 0, one
        found[one.row] = Told(reason=one.reason.removeprefix(f"{name} is "))
    return [found[row] for row in sorted(found)]


def assert_fed(found: Sequence[Told], expected: Sequence[Told], given: Sequence[Any]) -> None:
    """As ``assert_same``; the feed tells the value with the reason, and needs each of its values."""
    assert len(found) == len(expected)
    for one, other, value in zip(found, expected, given, strict=True):
        if other.reason in ("", "the value is missing") and other.value in (None, ""):
            assert one.reason.startswith("empty"), (value, one)
        elif other.reason:
            assert one.reason.startswith(f"{other.reason}: "), (value, one, other)
        else:
            assert one == other, (value, one, other)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("use_case", "field"), [(FLATS, NUMBER), (BY_PLACE, PLACE)], ids=["whole", "text"])
def test_outcomes_feed_reads_keys_as_the_table_says(
    use_case: UseCase, field: Field, count: int, tmp_path: Path
) -> None:
    rng = random.Random(f"feed {field.name} {count}")
    other = {"left": "Yes", "effective_date": "2026-03-31"}
    for file, group in parquet_files([typed_value(field, rng) for _ in range(count)], tmp_path, field.name):
        pd.read_parquet(file).assign(**other).to_parquet(file)
        assert_fed(
            by_feed(file, use_case, field.name), [by_table(value, field, as_text=False) for value in group], group
        )
    cells = [cell(field, rng) for _ in range(count)]
    file = write_csv(tmp_path / "feed.csv", [field.name, *other], [[one, *other.values()] for one in cells])
    assert_fed(by_feed(file, use_case, field.name), [by_table(one, field, as_text=True) for one in cells], cells)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["left", "effective_date"])
def test_door_and_feed_read_labels_and_days_alike(name: str, count: int, tmp_path: Path) -> None:
    rng = random.Random(f"{name} {count}")
    make = a_day if name == "effective_date" else lambda rng: rng.choice([a_text(rng), True, 1, 0.0, None])

    def expected(value: Any, as_text: bool) -> Told:
        if name == "effective_date":
            return told(lambda: spelling.day(value))
        return told(lambda: spelling.label(value, ["Yes", "No"], as_text=as_text))

    def required(one: Told) -> Told:
        return Told(reason="the value is missing") if name == "left" and one == Told(None) else one

    values = [make(rng) for _ in range(count)]
    other = {"left": "Yes"} if name != "left" else {"effective_date": "2026-03-31"}
    files = [(file, group, False) for file, group in parquet_files(values, tmp_path, name)]
    for file, group, _ in files:
        # A key of its own for each row, which no other row of the file may contradict.
        pd.read_parquet(file).assign(number=range(1, len(group) + 1), **other).to_parquet(file)
    cells = [value if isinstance(value, str) else "" if value is None else str(value) for value in values]
    rows = [[one, str(number), *other.values()] for number, one in enumerate(cells, start=1)]
    files.append((write_csv(tmp_path / "table.csv", [name, "number", *other], rows), cells, True))
    for file, group, as_text in files:
        told_by_table = [expected(value, as_text) for value in group]
        assert_same(by_door(file, name), [required(one) for one in told_by_table], group)
        assert_fed(by_feed(file, FLATS, name), told_by_table, group)


@pytest.mark.parametrize("count", COUNTS)
def test_a_number_means_the_same_as_text_and_typed_and_the_scaffold_knows_it(count: int) -> None:
    rng = random.Random(count)
    numbers: set[str] = set()
    others: set[str] = set()
    for _ in range(count):
        number = a_number(rng)
        text = spelled(number, rng)
        for field in (SIZE, ROOMS, NUMBER):
            one, other = by_table(number, field, as_text=False), by_table(text, field, as_text=True)
            assert one == other, (number, text)
        for one in (text, rng.choice(JUNK), a_text(rng)):
            read = told(lambda one=one: spelling.text(one, SIZE))
            if isinstance(read.value, float) and not one.strip().lstrip("+-").startswith("0"):
                numbers.add(one.strip())
            elif read.reason == "not a number":
                others.add(one.strip())
    listed = sorted(numbers)
    for start in range(0, len(listed), 100):
        cells = listed[start : start + 100]
        assert look_at("x", pd.Series(cells, dtype=object)).numeric, cells
    for cell in sorted(others):
        assert not look_at("x", pd.Series([cell], dtype=object)).numeric, cell


@pytest.mark.parametrize("value", [np.array([1, 2]), np.array([]), [1], {"a": 1}, b"x", time(1)], ids=repr)
@pytest.mark.parametrize("field", [SIZE, ROOMS, PLACE], ids=lambda field: field.kind)
def test_what_parquet_may_hold_and_no_field_can_is_refused(value: Any, field: Field) -> None:
    values = np.empty(2, object)
    values[0] = value
    read, refused = spelling.read_column(values, field)
    assert list(refused) == [0]
    assert spelling.is_missing(read[0])


@pytest.mark.parametrize("concept", TABLE, ids=lambda concept: concept.name)
def test_the_examples_of_the_table_mean_the_same_both_ways(concept: Concept) -> None:
    for value, text in concept.examples:
        typed, cell = told(lambda v=value: concept.read(v, False)), told(lambda t=text: concept.read(t, True))
        assert typed == cell, (value, text)


@pytest.mark.parametrize(
    ("value", "field", "hint"),
    [
        ("41", ROOMS, "send 41 without quotes"),
        (41, PLACE, 'send it in quotes: "41"'),
        ("forty", ROOMS, ""),
    ],
)
def test_text_in_place_of_a_number_and_the_reverse_are_told_with_what_to_send(
    value: Any, field: Field, hint: str
) -> None:
    with pytest.raises(Refusal) as refused:
        spelling.typed(value, field)
    assert refused.value.hint == hint


def test_log_gets_what_was_understood_where_a_truth_value_is_another_category(bundle: Bundle) -> None:
    garden = msgspec.structs.replace(GARDEN, categories=("True", "no idea", "False"))
    fields = tuple(garden if field.name == "garden" else field for field in bundle.contract.fields)
    contract = msgspec.structs.replace(bundle.contract, fields=fields)
    body = json.dumps([RECORD | {"garden": False, "rooms": 3.0}]).encode()
    with pytest.raises(msgspec.ValidationError) as refused:
        RecordReader(contract).read(body)
    matrix, understood = reread(body, contract, refused.value)
    assert matrix[0, 3] == 2
    assert json.loads(understood) == [RECORD | {"garden": "False", "rooms": 3}]


def test_fault_of_a_number_in_quotes_says_how_to_send_it(bundle: Bundle) -> None:
    body = json.dumps([RECORD | {"rooms": "41", "heating": 7}]).encode()
    with pytest.raises(ContractViolated) as refused:
        reread(body, bundle.contract, msgspec.ValidationError())
    assert refused.value.faults is not None
    words = {fault.field: fault.allowed for fault in refused.value.faults}
    assert words["rooms"] == f"a whole number from -{LARGEST_WHOLE} to {LARGEST_WHOLE}; send 41 without quotes"
    assert words["heating"].endswith('send it in quotes: "7"')
