"""The lines of a CSV file: each is cells or one fault, and none costs another."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.scoring import csv_lines
from serving.scoring.csv_lines import BadLine, open_text, read_lines

GOOD = {b"1,x": ["1", "x"], b' 2 ,"a,b"': ["2", "a,b"], b"3": ["3"], b"M\xfc,4": ["M\udcfc", "4"]}
BAD = {
    b'5,"a"b': "a quotation mark within a cell",
    b"6," + b"y" * 131_073: "a cell of more than 131,072 characters",
    b"7," * 100_000: "a line of more than 150,000 characters",
}


@pytest.fixture(autouse=True)
def _short_lines(monkeypatch_module):
    monkeypatch_module.setattr(csv_lines, "_LINE", 150_000)


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@given(
    lines=st.lists(st.sampled_from([*GOOD, *BAD, b"", b" , "]), max_size=8),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    closed=st.booleans(),
)
def test_each_line_is_cells_or_one_fault_under_its_number_in_an_editor(lines, end, closed):
    text = end.join(lines) + (end if closed else b"")
    found = list(read_lines(open_text(io.BytesIO(text), compressed=False)))
    expected = [(number, line) for number, line in enumerate(lines, start=1) if line in GOOD or line in BAD]
    assert [number for number, _ in found] == [number for number, _ in expected]
    for (_, cells), (_, line) in zip(found, expected, strict=True):
        if isinstance(cells, BadLine):
            assert cells.reason.startswith(BAD[line])
            assert cells.text.encode().startswith(line if len(line) < 150_000 else b"")
        else:
            assert cells == GOOD[line]
