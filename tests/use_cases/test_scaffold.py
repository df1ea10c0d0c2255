"""The scaffold: whatever it writes loads and accepts its own table; each kind of column is treated as it should be."""

import datetime
import functools
import json
import re
import string
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from serving.scoring.contract import Field
from serving.scoring.records import RecordReader
from serving.validation import allowed
from tests.support.every_use_case import OWN, ROOT, found_in
from training.data.read_file import read_raw
from training.data.table import RawTable
from training.data.validation import find_faults
from training.export.contract import request_contract
from training.scaffold.__main__ import main
from training.scaffold.draft import draft
from training.scaffold.profile import ScaffoldError
from training.use_case import Group, column_name, load

ROWS = 260
RUFF = Path(sys.executable).with_name("ruff")
LABEL = "won"


def table(rows=ROWS, seed=1, **columns):
    """A table with some signal: number ``size``, category ``kind``, label ``won``; other columns as given."""
    rng = np.random.default_rng(seed)
    size = rng.normal(50, 10, rows).round(2)
    kind = rng.choice(["small", "large", "huge"], rows)
    won = rng.random(rows) < 1 / (1 + np.exp(-(size - 50) / 5 - (kind == "huge")))
    frame = pd.DataFrame({"size": size, "kind": kind, LABEL: np.where(won, "yes", "no")})
    return frame.assign(**{name: make(rng, rows) if callable(make) else make for name, make in columns.items()})


@pytest.fixture
def drafted(tmp_path):
    """``drafted(frame, key=...)`` drafts a use case of a table that was written as CSV."""

    return functools.partial(draft_of, tmp_path)


def draft_of(folder, frame, label=LABEL, **options):
    file = folder / "table.csv"
    frame.to_csv(file, index=False)
    return draft("made", str(file), label, **options)


def draft_of_each(folder, columns):
    """A draft of one table with all of these columns, under names that say nothing; and these names."""
    names = {kind: f"odd_{place}" for place, kind in enumerate(columns)}
    return draft_of(folder, table(**{names[kind]: make for kind, make in columns.items()})), names


def field(made, name) -> Field:
    return next(field for field in made.use_case.fields if field.name == name)


def remark(made, name):
    found = next(choice.remark for choice in made.profile.choices if choice.field.name == name)
    assert found is None or any(found in told and name in told for told in made.profile.remarks)
    return found


# --- whatever comes out holds ---

NAMES = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=12).filter(
    lambda name: name == name.strip() and name not in ("size", "kind", LABEL)
)
TEXTS = st.text(string.printable.replace("\r", "") + "äßéŁжаб日本ノ\u2013\u2019\"'\\", max_size=20)
CELLS = st.one_of(
    st.lists(st.integers(-(10**18), 10**18), min_size=1, max_size=8),
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.lists(st.floats(-1e29, 1e29), min_size=1, max_size=300),
    st.lists(TEXTS, min_size=1, max_size=300),
    st.lists(st.one_of(st.none(), TEXTS), min_size=1, max_size=5),
    st.lists(st.dates().map(str), min_size=1, max_size=40),
    st.lists(st.booleans(), min_size=1, max_size=2),
    st.lists(st.text("0123456789", min_size=1, max_size=6), min_size=1, max_size=300),
)


def test_whatever_is_written_loads_accepts_its_table_and_is_laid_out_as_ruff_does(tmp_path):
    @settings(
        max_examples=40,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.dictionaries(NAMES, CELLS, max_size=4), st.integers(0, 3))
    def write_and_read(columns, seed):
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        frame = table(seed=seed)
        for name, values in columns.items():
            frame[name] = [values[row % len(values)] for row in range(len(frame))]
        file = folder / "table.csv"
        frame.to_csv(file, index=False)
        arguments = ["--name", "generated", "--data", str(file), "--label", LABEL, "--into", str(folder / "made")]
        if main(arguments) == 2:
            # Refused for its names alone, which a person can mend.
            with pytest.raises(ScaffoldError, match=r"rename|has no name|more than once"):
                draft("generated", str(file), LABEL)
            return
        with found_in(folder / "made"):
            use_case = load("generated")
            assert find_faults(use_case, read_raw(str(file))) == []
            record = {field.name: field.example for field in use_case.fields}
            assert len(RecordReader(request_contract(use_case)).read(json.dumps([record]).encode())) == 1
            assert len({column.lower() for column in use_case.columns.values()}) == len(use_case.columns)

    write_and_read()
    assert len(list(tmp_path.glob("*/made/generated"))) > 20
    ruff(tmp_path)  # all of them at once: it names the file that is laid out in another way


def ruff(folder):
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        run = subprocess.run(
            [RUFF, *command, "--config", str(ROOT / "pyproject.toml"), str(folder)], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout + run.stderr


def test_the_tests_own_use_case_is_what_the_scaffold_writes_of_its_table(tmp_path):
    """After a change: ``make use-case`` with these arguments into tests/support/use_cases, over a removed folder."""
    with found_in(OWN):
        rows = load("progression").part("sample").make_sample(442, 4)
    rows.to_csv(tmp_path / "table.csv", index=False)
    arguments = ["--label", "progression", "--key", "Patient", "--positive", "fast", "--into", str(tmp_path / "made")]
    assert main(["--name", "progression", "--data", str(tmp_path / "table.csv"), *arguments]) == 0
    for name in ("__init__.py", "fields.py"):
        assert (tmp_path / "made" / "progression" / name).read_text() == (OWN / "progression" / name).read_text()
    ruff(tmp_path / "made")


@pytest.mark.parametrize(
    "text",
    ["it's", 'say "so"', "both ' and \"", "back\\slash", "tab\t", "日本" * 40, "word " * 40, 'quote" ' * 40, "x" * 300,
     "/tmp/x", "::", "Нет", "a\u2013b", "non breaking", "'\" " * 50],
)  # fmt: skip
def test_texts_of_any_kind_are_written_as_ruff_writes_them(tmp_path, text):
    frame = table(odd=lambda rng, rows: rng.choice([text, "plain", "other"], rows))
    if text.isprintable() and not set(text) & set('"\\'):
        frame = frame.rename(columns={"size": f"Size {text}"[:100]})
    frame.to_csv(tmp_path / "table.csv", index=False)
    arguments = [
        "--name",
        "odd",
        "--data",
        str(tmp_path / "table.csv"),
        "--label",
        LABEL,
        "--into",
        str(tmp_path / "m"),
    ]
    assert main(arguments) == 0
    ruff(tmp_path / "m")
    with found_in(tmp_path / "m"):
        assert find_faults(load("odd"), read_raw(str(tmp_path / "table.csv"))) == []


# --- columns ---


def test_numbers_have_kind_range_with_room_and_no_missing_values_unless_seen(drafted):
    frame = table(
        count=lambda rng, rows: rng.integers(3, 80, rows),
        share=lambda rng, rows: rng.random(rows).round(4),
        flag=lambda rng, rows: rng.integers(0, 2, rows),
        degrees=lambda rng, rows: rng.integers(-40, 30, rows),
    )
    frame["gap"] = frame["size"].where(frame.index % 5 > 0)
    made = drafted(frame)
    assert field(made, "count").kind == "integer"
    assert field(made, "share").kind == "number"
    assert (field(made, "flag").minimum, field(made, "flag").maximum) == (0, 1)
    for name in ("count", "share", "degrees"):
        found = field(made, name)
        span = frame[name].max() - frame[name].min()
        assert found.role == "feature"
        assert found.unit is None
        assert found.maximum >= frame[name].max() + span / 4
        assert 0 <= found.minimum <= frame[name].min() or found.minimum <= frame[name].min() - span / 4
        assert (found.required, found.nullable) == (True, False)
    assert field(made, "degrees").minimum < -40
    assert (field(made, "gap").required, field(made, "gap").nullable) == (False, True)


def test_codes_with_leading_zeros_are_categories_and_keep_them(drafted):
    made = drafted(table(branch=lambda rng, rows: rng.choice(["007", "010", "123"], rows)))
    assert field(made, "branch").categories == ("007", "010", "123")


def test_constant_and_empty_columns_are_carried_without_drift_and_without_a_remark(drafted):
    made = drafted(table(unit="EUR", hours=80, nothing=None))
    for name in ("unit", "hours", "nothing"):
        found = field(made, name)
        assert (found.role, found.drift, found.required, found.nullable) == ("carried", False, False, True)
        assert remark(made, name) is None


def test_second_identifiers_are_carried(drafted):
    made = drafted(
        table(
            row=range(1, ROWS + 1),
            customer=[f"C{number:04d}" for number in range(ROWS)],
            account_no=lambda rng, rows: rng.permutation(10**6)[:rows],
        )
    )
    for name in ("row", "customer", "account_no"):
        assert (field(made, name).role, field(made, name).drift) == ("carried", False)
        assert field(made, name).sensitive


def test_distinct_measurements_are_not_taken_for_identifiers(drafted):
    made = drafted(table(salary=lambda rng, rows: rng.permutation(10**6)[:rows]))
    assert field(made, "salary").role == "feature"


OF_NO_USE = {
    "ISO dates": (lambda rng, rows: [f"2024-{1 + row % 12:02d}-{1 + row % 28:02d}" for row in range(rows)], "a date"),
    "German dates": (lambda rng, rows: [f"{1 + row % 28}.{1 + row % 12}.2024" for row in range(rows)], "a date"),
    "dates as numbers": (lambda rng, rows: [20240101 + row % 28 for row in range(rows)], "a date"),
    "months by name": (
        lambda rng, rows: [f"{1 + row % 28} {('Jan', 'May')[row % 2]} 2024" for row in range(rows)],
        "a date",
    ),
    "months first": (
        lambda rng, rows: [f"{('March', 'okt')[row % 2]} {1 + row % 28}, 2024" for row in range(rows)],
        "a date",
    ),
    "months in German": (lambda rng, rows: [f"{1 + row % 28}. März 2024" for row in range(rows)], "a date"),
    "with a time": (lambda rng, rows: [f"0{1 + row % 9}/11/2024, 10:{10 + row % 50}" for row in range(rows)], "a date"),
    "months": (lambda rng, rows: [f"2024-{1 + row % 12:02d}" for row in range(rows)], "a date"),
    "quarters": (lambda rng, rows: [f"2024 Q{1 + row % 4}" for row in range(rows)], "a date"),
    "sentences": (lambda rng, rows: [f"the customer said word{row} about it" for row in range(rows)], "free text"),
    "long text": (lambda rng, rows: ["x" * 200 if row % 2 else "y" for row in range(rows)], "free text"),
    "many categories": (lambda rng, rows: [f"town{row % 100}" for row in range(rows)], "too many different values"),
    "few values": (
        lambda rng, rows: ["known" if row < 9 else "other" if row < 20 else None for row in range(rows)],
        "too few",
    ),
}
"""Columns, and what is told of them."""


@pytest.fixture(scope="module")
def of_no_use(tmp_path_factory):
    return draft_of_each(tmp_path_factory.mktemp("no_use"), {kind: make for kind, (make, _) in OF_NO_USE.items()})


@pytest.mark.parametrize("kind", OF_NO_USE)
def test_what_no_model_can_use_is_carried_and_named(of_no_use, kind):
    made, names = of_no_use
    assert (field(made, names[kind]).role, field(made, names[kind]).drift) == ("carried", False)
    assert OF_NO_USE[kind][1] in remark(made, names[kind])


@pytest.mark.parametrize("unit", [1, 1000, 10**6])
def test_seconds_since_1970_are_a_date_where_the_name_speaks_of_time(drafted, unit):
    seconds = {"created_at": lambda rng, rows: [(1_700_000_000 + 77 * row) * unit for row in range(rows)]}
    made = drafted(table(**seconds).assign(turnover=lambda frame: frame["created_at"]))
    assert field(made, "created_at").role == "carried"
    assert "a date" in remark(made, "created_at")
    assert field(made, "turnover").role == "feature"


NUMBERS_IN_WORDS = {
    "points and commas": (
        lambda rng, rows: [f"1.{200 + row},50" for row in range(rows)],
        "carried",
        "seem to be numbers ('1.200,50')",
    ),
    "decimal commas": (
        lambda rng, rows: [f"{row % 3},5" for row in range(rows)],
        "feature",
        "seem to be numbers ('0,5')",
    ),
    "dollars": (
        lambda rng, rows: [f"${row % 9 + 1},993" for row in range(rows)],
        "feature",
        "seem to be numbers ('$1,993')",
    ),
    "shares": (lambda rng, rows: [f"{row % 90} %" for row in range(rows)], "carried", "seem to be numbers ('0 %')"),
    "a sign for nothing": (
        lambda rng, rows: ["?" if row % 20 == 3 else row for row in range(rows)],
        "carried",
        "but for some ('?')",
    ),
    "codes": (lambda rng, rows: [f"{row % 7:04d}" for row in range(rows)], "feature", None),
    "spans": (lambda rng, rows: [f"{row % 7}-{row % 7 + 1}" for row in range(rows)], "feature", None),
}
"""Columns, their role, and what is told of them."""


@pytest.fixture(scope="module")
def numbers_in_words(tmp_path_factory):
    columns = {kind: make for kind, (make, _, _) in NUMBERS_IN_WORDS.items()}
    return draft_of_each(tmp_path_factory.mktemp("numbers"), columns)


@pytest.mark.parametrize("kind", NUMBERS_IN_WORDS)
def test_text_that_seems_to_be_numbers_is_named_with_what_to_do(numbers_in_words, kind):
    made, names = numbers_in_words
    _, role, told = NUMBERS_IN_WORDS[kind]
    assert field(made, names[kind]).role == role
    found = remark(made, names[kind])
    assert (told in found and "become numbers" in found) if told else found is None


LONG = 7_340_020_123_456_789_001


def test_long_numbers_that_tell_rows_apart_are_not_taken_for_measurements(drafted, tmp_path):
    """A float64 would make one of several; as text every digit is kept."""
    ids = [LONG + 3 * row for row in range(ROWS)]
    made = drafted(table(device=ids))
    found = field(made, "device")
    assert (found.role, found.kind, found.sensitive) == ("carried", "category", True)
    assert drafted(table(device=ids), key="device").use_case.key == "device"
    with pytest.raises(ScaffoldError, match="1 duplicate"):
        drafted(table(device=[ids[0], *ids[:-1]]), key="device")
    table(device=ids).to_parquet(tmp_path / "table.parquet", index=False)
    typed = field(draft("made", str(tmp_path / "table.parquet"), LABEL), "device")
    assert (typed.role, typed.kind, typed.sensitive) == ("carried", "number", True)
    with pytest.raises(ScaffoldError, match="store them as text"):
        draft("made", str(tmp_path / "table.parquet"), LABEL, key="device")


def test_carried_text_takes_any_text_at_the_door_and_in_a_request(drafted):
    made = drafted(table(note=lambda rng, rows: [f"the customer said word{row} about it" for row in range(rows)]))
    contract = request_contract(made.use_case)
    record = {one.name: one.example for one in made.use_case.fields} | {"note": "quite another note"}
    assert field(made, "note").categories == ()
    assert allowed(field(made, "note")) == "text of up to 128 characters, or null"
    assert len(RecordReader(contract).read(json.dumps([record]).encode())) == 1
    other = table(seed=2, note="never seen")
    assert find_faults(made.use_case, RawTable(other.astype(str), True, range(2, ROWS + 2))) == []


PROTECTED = {
    "Gender": lambda rng, rows: rng.choice(["a", "b"], rows),
    "applicantSex": lambda rng, rows: rng.choice(["a", "b"], rows),
    "code": lambda rng, rows: rng.choice(["male", "female"], rows),
    "salutation": lambda rng, rows: rng.choice(["Mr", "Mrs"], rows),
    "status": lambda rng, rows: rng.choice(["Single", "Married", "Divorced"], rows),
    "MaritalStatus": lambda rng, rows: rng.choice(["x", "y"], rows),
    "religion": lambda rng, rows: rng.choice(["x", "y"], rows),
    "SeniorCitizen": lambda rng, rows: rng.integers(0, 2, rows),
    "age": lambda rng, rows: rng.integers(18, 90, rows),
    "birth_year": lambda rng, rows: rng.integers(1950, 2000, rows),
    "empgender": lambda rng, rows: rng.choice(["x", "y"], rows),
    "Nationalität": lambda rng, rows: rng.choice(["x", "y"], rows),
    "Alter": lambda rng, rows: rng.integers(18, 90, rows),
}
ONLY_CONTAIN = ("mileage", "page", "stage", "essex", "birthing")


@pytest.fixture(scope="module")
def drafted_protected(tmp_path_factory):
    """A table with all columns that suggest a protected attribute, and some whose names only contain such a word."""
    others = {name: lambda rng, rows: rng.integers(0, 90, rows) for name in ONLY_CONTAIN}
    return draft_of(tmp_path_factory.mktemp("protected"), table(**PROTECTED, **others))


@pytest.mark.parametrize("name", PROTECTED)
def test_what_suggests_a_protected_attribute_is_compared_and_not_fed(drafted_protected, name):
    found = field(drafted_protected, name)
    assert (found.role, found.required, found.nullable) == ("compared", False, True)
    assert "protected" in remark(drafted_protected, name)


def test_name_in_small_letters_suggests_the_same(drafted):
    made = drafted(table(maritalstatus=PROTECTED["MaritalStatus"]))
    assert field(made, "maritalstatus").role == "compared"
    assert [group.field for group in made.use_case.groups] == ["maritalstatus"]


def test_groups_are_the_fields_that_are_compared_and_no_others(drafted_protected):
    assert [group.field for group in drafted_protected.use_case.groups] == list(PROTECTED)


@pytest.mark.parametrize("name", ONLY_CONTAIN)
def test_names_that_only_contain_such_a_word_are_features(drafted_protected, name):
    assert field(drafted_protected, name).role == "feature"


def test_bands_of_a_compared_number_divide_its_rows(drafted):
    frame = table(age=lambda rng, rows: rng.integers(18, 90, rows), senior=lambda rng, rows: rng.integers(0, 2, rows))
    made = drafted(frame.rename(columns={"senior": "elderly"}))
    age, elderly = made.use_case.groups
    assert len(age.bands) == 3
    edges = [-np.inf, *age.bands, np.inf]
    assert pd.cut(frame["age"], edges, right=False).value_counts().min() > ROWS / 8
    assert elderly == Group("elderly", bands=(1,))


def test_column_that_knows_the_label_is_named_as_leakage_and_carried(drafted):
    frame = table()
    frame["closing_code"] = np.where(frame[LABEL] == "yes", "W", "L")
    frame["paid"] = np.where(frame[LABEL] == "yes", 100 + frame.index, frame.index / 10)
    frame["reason"] = np.where(frame[LABEL] == "yes", "price", None)
    made = drafted(frame)
    for name in ("closing_code", "paid", "reason"):
        assert field(made, name).role == "carried"
        assert "possible leakage" in remark(made, name)
    assert field(made, "size").role == "feature"
    assert remark(made, "size") is None


def test_rare_and_look_alike_categories_are_named(drafted):
    frame = table(plan=lambda rng, rows: rng.choice(["Basic", "Gold"], rows))
    frame.loc[:2, "plan"] = "Trial"
    frame.loc[50:80, "plan"] = "gold"
    found = remark(drafted(frame), "plan")
    assert "rare categories ('Trial')" in found
    assert "'Gold', 'gold'" in found


# --- label and key ---


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [
        (("yes", "no"), None, "yes"),
        (("0", "1"), None, "1"),
        (("True", "False"), None, "True"),
        (("blue", "red"), "Red", "red"),
        (("stayed", "churned"), None, "churned"),
    ],
)
def test_positive_value_is_the_telling_one_or_the_one_that_is_given(drafted, values, positive, expected):
    frame = table()
    frame[LABEL] = np.where(frame[LABEL] == "yes", *values)
    made = drafted(frame, positive=positive)
    assert made.use_case.label.positive == expected
    assert made.profile.guessed is (positive is None)


def test_without_a_telling_word_the_rarer_value_is_positive(drafted):
    frame = table()
    frame[LABEL] = ["rare" if row % 4 == 0 else "frequent" for row in range(ROWS)]
    assert drafted(frame).use_case.label.positive == "rare"


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"label": "gone"}, r"no column 'gone', which LABEL names: use one of 'size', 'kind', 'won'"),
        ({}, {"key": "id"}, r"no column 'id', which KEY names"),
        ({}, {"positive": "maybe"}, r"POSITIVE is 'maybe', and the label won holds .*: use one"),
        ({LABEL: lambda rng, rows: rng.choice(["a", "b", "c"], rows)}, {}, r"has 3 values: .* A label has two\. Make"),
        ({LABEL: lambda rng, rows: rng.random(rows)}, {}, r"has 260 values: .* and 250 more.*lies above a limit"),
        ({LABEL: lambda rng, rows: rng.choice(["yes", "Yes", "no"], rows)}, {}, r"two but for blanks and case: spell"),
        ({LABEL: "yes"}, {}, r"'yes' in every row"),
        ({LABEL: lambda rng, rows: [None, *["yes", "no"] * 130][:rows]}, {}, r"missing in 1 row \(first: line 2\)"),
        (
            {LABEL: lambda rng, rows: rng.choice(["Some", "None"], rows)},
            {},
            r"None and the like: spell an outcome in ano",
        ),
        ({LABEL: lambda rng, rows: ["yes"] * 10 + ["no"] * (rows - 10)}, {}, r"has 10 rows, and 25 are needed"),
        ({"id": lambda rng, rows: [*range(rows - 1), None]}, {"key": "id"}, r"1 empty value \(first: line 261\)"),
        ({"id": "x" * 200}, {"key": "id"}, r"up to 200 characters"),
        ({"source": "web"}, {}, r"'source' has a name that the project's own tables use: rename it"),
        ({'say "so"': 1}, {}, r"holds a quotation mark, a backslash, a line break or the like: rename it"),
        ({"Size": 1}, {}, r"'size' and 'Size' become one column 'size'.*rename one"),
        ({"a b": 1, "a_b": 2}, {}, r"'a b' and 'a_b' become one column 'a_b'"),
        ({"ratio": lambda rng, rows: [np.inf, *range(rows - 1)]}, {}, r"ratio holds infinite numbers"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_do(drafted, change, options, message):
    with pytest.raises(ScaffoldError, match=message):
        drafted(table(**change), **options)


@pytest.mark.parametrize(("mark", "words"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_other_marks_between_cells_are_named(tmp_path, mark, words):
    frame = table()
    frame["size"] = frame["size"].map(lambda size: f"{size}".replace(".", ","))
    frame.to_csv(tmp_path / "table.csv", index=False, sep=mark)
    with pytest.raises(ScaffoldError, match=f"its cells are separated by {words}: save it with commas"):
        draft("made", str(tmp_path / "table.csv"), LABEL)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[1, 2]] * ROWS, "lists"),
        ([[]] * ROWS, "lists"),
        ([{"a": 1}] * ROWS, "records within records"),
        ([pd.Timedelta(hours=row) for row in range(ROWS)], "durations"),
        ([datetime.time(row % 24) for row in range(ROWS)], "times of day"),
        ([None, *[b"raw"] * (ROWS - 1)], "bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parquet_of_what_no_field_holds_is_refused_by_name(tmp_path, values, words):
    table().assign(odd=pd.Series(values)).to_parquet(tmp_path / "table.parquet", index=False)
    with pytest.raises(ScaffoldError, match=f"'odd' holds {words}: make numbers, texts or dates of it"):
        draft("made", str(tmp_path / "table.parquet"), LABEL)


def test_key_that_pandas_has_made_its_index_is_a_column(tmp_path):
    frame = table(number=[f"K{row}" for row in range(ROWS)])
    frame.set_index("number").to_parquet(tmp_path / "table.parquet")
    assert draft("made", str(tmp_path / "table.parquet"), LABEL, key="number").use_case.key == "number"
    frame.drop(columns="number").sort_values("size").to_parquet(tmp_path / "sorted.parquet")  # an index without a name
    assert len(draft("made", str(tmp_path / "sorted.parquet"), LABEL).use_case.fields) == 2


def test_duplicates_of_the_key_are_counted_and_the_first_is_shown(drafted):
    keys = np.arange(1000, 1000 + ROWS)
    keys[5] = keys[10] = 253
    keys[100:134] = 7
    with pytest.raises(ScaffoldError) as refused:
        drafted(table(number=keys), key="number")
    assert "The key column contains 34 duplicates (first: 253, lines 7 and 12)." in str(refused.value)


def test_small_table_nameless_and_repeated_columns_are_refused_together_where_they_can_be(drafted, tmp_path):
    with pytest.raises(ScaffoldError, match=r"column 4 has no name.*\n.*has 150 rows, and 200 are needed"):
        drafted(table(rows=150).assign(**{"": 1}))
    (tmp_path / "twice.csv").write_text("a,b,a,won\n" + "1,2,3,yes\n1,2,4,no\n" * 150)
    with pytest.raises(ScaffoldError, match="the header names 'a' more than once"):
        draft("made", str(tmp_path / "twice.csv"), LABEL)


def test_table_without_anything_to_learn_from_is_refused_with_reasons(drafted):
    frame = table()[[LABEL]].assign(row=range(ROWS), unit="EUR")
    with pytest.raises(ScaffoldError, match=r"no column is left(.|\n)*row: .*Carried: tells rows apart"):
        drafted(frame)


@pytest.mark.parametrize("values", [range(500, 500 + ROWS), [f"K-{number}" for number in range(ROWS)]])
def test_key_is_carried_and_its_example_is_nobodys(drafted, values):
    made = drafted(table(customer=list(values)), key="customer")
    key = field(made, "customer")
    assert made.use_case.key == "customer"
    assert (key.role, key.drift, key.sensitive) == ("carried", False, True)
    assert key.example not in list(values)


def test_parquet_with_dates_truth_values_and_numbers_is_read_like_csv(tmp_path):
    frame = table(
        number=range(ROWS), ok=lambda rng, rows: rng.random(rows) < 0.5, when=pd.date_range("2024-01-01", periods=ROWS)
    )
    frame["small"] = pd.array([row % 7 if row % 5 else None for row in range(ROWS)], "Int64")
    frame[LABEL] = frame[LABEL] == "yes"
    frame.to_parquet(tmp_path / "table.parquet", index=False)
    made = draft("made", str(tmp_path / "table.parquet"), LABEL, key="number")
    assert made.use_case.label.positive == "true"
    assert field(made, "ok").categories == ("false", "true")
    assert (field(made, "when").role, field(made, "when").kind) == ("carried", "category")
    assert (field(made, "small").kind, field(made, "small").nullable) == ("integer", True)


# --- thresholds and trials ---


def test_thresholds_follow_from_the_table_and_each_has_a_reason(drafted):
    made = drafted(table(gender=lambda rng, rows: rng.choice(["male", "female"], rows)))
    limits = made.use_case.thresholds
    assert made.measured.signal
    assert limits.minimum_roc_auc_low == 0.5
    assert limits.not_worse_than_plain
    assert 0.05 <= limits.maximum_calibration_error <= 0.3
    assert 0.2 <= limits.maximum_fairness_gap <= 0.8
    assert set(made.measured.reasons) == {
        "minimum_roc_auc_low", "maximum_calibration_error", "maximum_fairness_gap", "not_worse_than_plain"
    }  # fmt: skip


def test_table_without_signal_is_told_so(tmp_path, capsys):
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"noise": rng.normal(size=ROWS), LABEL: rng.choice(["yes", "no"], ROWS)})
    frame.to_csv(tmp_path / "table.csv", index=False)
    arguments = ["--name", "noise", "--data", str(tmp_path / "table.csv"), "--label", LABEL, "--into", str(tmp_path)]
    assert main(arguments) == 0
    assert "no better than chance" in capsys.readouterr().out


def test_trials_are_lowered_for_a_large_table(drafted):
    assert drafted(table()).use_case.trials == 30
    assert drafted(table(rows=24_000)).use_case.trials == 25


# --- the command ---


@pytest.fixture
def command(tmp_path):
    table(number=range(ROWS)).to_csv(tmp_path / "table.csv", index=False)

    def run(*more):
        given = ["--name", "deals", "--data", str(tmp_path / "table.csv"), "--label", LABEL, *more]
        return main([*given, "--into", str(tmp_path / "made")])

    return run


def test_command_says_what_became_of_the_table(command, capsys, tmp_path):
    assert command("--key", "number") == 0
    said = capsys.readouterr().out
    assert "4 fields" not in said
    assert "3 fields (2 features, 0 compared, 1 carried) from 260 rows" in said
    assert re.search(r"Positive: won is 'yes' in \d+ of 260 rows .*This was a guess: POSITIVE=", said)
    assert re.search(r"ROC AUC of 0\.\d{3} \(95% interval", said)
    assert "No KEY" not in said
    assert f"USE_CASES={tmp_path / 'made'} make demo USE_CASE=deals" in said


def test_without_a_key_it_says_what_needs_one(command, capsys):
    assert command() == 0
    said = capsys.readouterr().out
    for word in ("no identity", "Outcomes", "erased", "one person a day"):
        assert word in said.replace("\n", " ")


def test_folder_that_is_there_is_never_overwritten(command, capsys, tmp_path):
    (tmp_path / "made" / "deals").mkdir(parents=True)
    assert command() == 2
    assert "there is a use case 'deals': choose another NAME, or remove it" in capsys.readouterr().err
    assert list((tmp_path / "made" / "deals").iterdir()) == []


@pytest.mark.parametrize("name", ["class", "Deals", "../deals", "1st", "a-b", "attrition"])
def test_name_that_cannot_be_a_folder_of_a_use_case_is_refused(name, tmp_path, capsys):
    table().to_csv(tmp_path / "table.csv", index=False)
    given = ["--name", name, "--data", str(tmp_path / "table.csv"), "--label", LABEL, "--into", str(tmp_path / "m")]
    assert main(given) == 2
    assert not (tmp_path / "m").exists()
    assert repr(name) in capsys.readouterr().err


def test_file_that_cannot_be_read_is_an_error_in_words(tmp_path, capsys):
    given = ["--name", "deals", "--data", str(tmp_path / "gone.csv"), "--label", LABEL, "--into", str(tmp_path)]
    assert main(given) == 2
    assert "it does not exist" in capsys.readouterr().err


def test_make_target_hands_everything_on(tmp_path):
    table(number=range(ROWS)).to_csv(tmp_path / "my table.csv", index=False)
    given = ["NAME=deals", f"DATA={tmp_path}/my table.csv", f"LABEL={LABEL}", "KEY=number", "POSITIVE=no",
             f"INTO={tmp_path}/made", f"RUN={sys.executable}"]  # fmt: skip
    # The environment is not the target's business here.
    run = subprocess.run(["make", "-o", "setup", "use-case", *given], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Positive: won is 'no'" in run.stdout
    bare = subprocess.run(["make", "-o", "setup", "use-case", "NAME=x"], cwd=ROOT, capture_output=True, text=True)
    assert bare.returncode == 2
    assert "name the use case, its table and its label" in bare.stderr


def test_awkward_names_get_columns_that_sql_takes(drafted):
    names = ["Monthly Income (EUR)", "naïve", "order", "1st_job", "a.b", "per cent %"]
    made = drafted(table(**{name: lambda rng, rows: rng.integers(0, 90, rows) for name in names}))
    assert [made.use_case.columns[name] for name in names] == [column_name(name) for name in names]
    assert all(re.fullmatch(r"[A-Za-z_]\w*", made.use_case.columns[name], re.ASCII) for name in names)
