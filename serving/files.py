"""Records as files: CSV and JSON by line, read as the JSON that they stand for, and written for answers."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving import validation
from serving.answers import ScoredRecord
from serving.errors import FAULTS_SHOWN, Fault, Problem, TooLarge, Unparsable
from serving.scoring.contract import Contract, Field
from serving.scoring.csv_lines import BadLine, is_utf_16, read_lines, surplus
from serving.scoring.encode import encode_values
from serving.scoring.spelling import SHOWN, find_columns, hold_column, read_column

_ROWS = 1000  # of a CSV file that are in memory as cells
_FORMULA = re.compile(r"(^|[,;|\t\r\n])([\"\s]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])|^(?=[\t\r\n])")
"""Before what a spreadsheet computes, half and full width, at the start of a cell, or of what it could take for one."""
_raw = msgspec.json.Decoder(msgspec.Raw)
_line_encoder = msgspec.json.Encoder()


# --- JSON by line ---


def as_list(body: bytes, contract: Contract) -> bytes:
    """JSON by line as one JSON list, an element for each line that is not blank; raises ``Unparsable``."""
    elements = bytearray()
    for record, (_, line) in enumerate(_lines(body)):
        try:
            _raw.decode(line)  # one value, and nothing after it
        except (msgspec.DecodeError, RecursionError) as error:
            problem = validation.not_json(line, contract, error)
            faults = problem.faults or [Fault(allowed="one record as JSON in each line")]
            problem.faults = [msgspec.structs.replace(fault, record=record) for fault in faults]
            problem.total = len(problem.faults)
            raise problem from error
        elements += line
        elements += b","
    return b"".join((b"[", elements[:-1], b"]"))


def _lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and text of each line that is not blank."""
    return ((number, line) for number, line in enumerate(io.BytesIO(body), start=1) if not line.isspace())


@contextmanager
def naming_lines(body: bytes) -> Iterator[None]:
    """Faults of records of JSON by line name the lines."""
    try:
        yield
    except Problem as problem:
        faults = problem.faults or ()
        asked = {fault.record for fault in faults}
        lines = {record: number for record, (number, _) in enumerate(_lines(body)) if record in asked}
        problem.faults = [
            fault if fault.record is None else msgspec.structs.replace(fault, line=lines[fault.record])
            for fault in faults
        ] or None
        raise


# --- CSV ---


def read_csv(body: bytes, contract: Contract, limit: int) -> tuple[NDArray[np.float64], bytes]:
    """The encoded fields ``[n, fields]`` of a CSV file, and its records as JSON: what was understood.

    The table of spellings says what a cell means. ``limit``: bytes that the JSON may have. Raises the ``Problem`` with
    a file that is not a table, does not meet the contract (every fault of it), or is too large. Of a file's rows few
    are in memory as cells, which take many times as much as their text.
    """
    _check_text(body)
    lines = read_lines(io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline=""))
    header = _header(lines)
    columns = _columns(header, contract)
    matrices: list[NDArray[np.float64]] = []
    understood: list[bytes] = []
    bad: list[Fault] = []
    faults: list[Fault] = []
    records, size = 0, len("[]")
    for rows in _blocks(lines, len(header), bad):
        matrix, text, found = _read_rows(rows, records, columns, contract)
        records += len(rows)
        faults += found
        if len(faults) >= validation.COUNTED:
            break
        if not faults:
            matrices.append(matrix)
            understood.append(text)
            size += len(text) + (len(understood) > 1)
        if size > limit:
            raise TooLarge(
                f"the file's records are more than {limit} bytes as JSON, which is the limit of every request, and "
                f"{records} of them have been read; send fewer records a request, or score them in batch"
            )
    if bad:
        raise Unparsable("the body is not a table in CSV, or not all of it", bad, len(bad))
    if not records:
        raise validation.no_records("a header line alone")
    if faults:
        raise validation.violations(faults[: validation.COUNTED], records)
    return np.concatenate(matrices), b"[%b]" % b",".join(understood)


def _header(lines: Iterator[tuple[int, list[str] | BadLine]]) -> list[str]:
    _, header = next(lines, (1, BadLine("nothing")))
    if isinstance(header, BadLine):
        raise Unparsable("the header line cannot be read", [_bad_line(1, header.reason)], 1)
    while header and not header[-1]:  # spreadsheets write commas beyond the last column
        header.pop()
    return header


def _blocks(
    lines: Iterator[tuple[int, list[str] | BadLine]], columns: int, bad: list[Fault]
) -> Iterator[list[tuple[int, list[str]]]]:
    """Some rows at a time, each with its line; what has more than ``columns`` cells goes to ``bad``, up to a limit."""
    rows: list[tuple[int, list[str]]] = []
    for number, cells in lines:
        if isinstance(cells, BadLine):
            bad.append(_bad_line(number, cells.reason))
        elif reason := surplus(cells, columns):
            bad.append(_bad_line(number, reason))
        else:
            rows.append((number, cells[:columns]))
        if len(bad) == FAULTS_SHOWN:
            break
        if len(rows) == _ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


def _read_rows(
    rows: list[tuple[int, list[str]]], first: int, columns: dict[str, int], contract: Contract
) -> tuple[NDArray[np.float64], bytes, list[Fault]]:
    """The encoded fields of some rows, the first of them record ``first``; their JSON without the brackets; faults."""
    matrix = np.full((len(rows), len(contract.fields)), np.nan)
    values: dict[str, list[float | int | str | None]] = {}
    faults: list[Fault] = []
    for position, field in enumerate(contract.fields):
        if (place := columns.get(field.name)) is None:
            continue
        cells = [cells[place] if place < len(cells) else "" for _, cells in rows]
        column, refused = read_column(cells, field, as_text=True)
        refused = hold_column(column, field) | refused  # a refused cell counts as missing, but why is known
        faults += [
            validation.value_fault(first + row, field, cells[row], why, rows[row][0]) for row, why in refused.items()
        ]
        if not faults:
            matrix[:, position] = encode_values(column, field)
            values[field.name] = _plain(column, field)
    if faults:
        return matrix, b"", sorted(faults, key=lambda fault: fault.record or 0)
    records = zip(*values.values(), strict=True)
    return matrix, msgspec.json.encode([dict(zip(values, record, strict=True)) for record in records])[1:-1], []


def _check_text(body: bytes) -> None:
    if is_utf_16(body):
        raise Unparsable("the file is in UTF-16 or UTF-32: save it as CSV UTF-8")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        fault = Fault(line=line, given="a byte that is not UTF-8", allowed="text in UTF-8")
        raise Unparsable("the file is not in UTF-8: save it as CSV UTF-8", [fault], 1) from error


def _columns(header: Sequence[str], contract: Contract) -> dict[str, int]:
    """Where each field stands in the header."""
    if len(header) > len(contract.fields) + FAULTS_SHOWN:  # and not millions of faults
        words = f"only fields of the contract, which are {len(contract.fields)}"
        fault = Fault(line=1, given=f"{len(header)} columns", allowed=words)
        raise validation.violations([fault], 0, "the header line has too many columns")
    found = find_columns(header, {field.name: () for field in contract.fields})
    if not any(found.values()):
        fault = Fault(line=1, given=validation.shown(",".join(header)), allowed="the names of the contract's fields")
        hint = "are its cells separated by commas, and is there a header line?"
        raise validation.violations([fault], 0, f"no column of the file is a field: {hint}")
    faults = []
    for field in contract.fields:
        columns = found[field.name]
        if len(columns) > 1:
            given = f"{len(columns)} columns: {validation.shown(', '.join(columns))}"
            faults.append(Fault(line=1, field=field.name, given=given, allowed="each field once"))
        elif not columns and field.required:
            words = f"{validation.allowed(field)}; the column must be there"
            faults.append(Fault(line=1, field=field.name, allowed=words))
    known = {name for names in found.values() for name in names}
    for place, name in enumerate(header, start=1):
        if name not in known:
            faults.append(Fault(line=1, field=name[:SHOWN] or f"column {place}", allowed="only fields of the contract"))
    if faults:
        raise validation.violations(faults, 0, f"the header line has {len(faults)} fault{'s' * (len(faults) > 1)}")
    return {ours: header.index(columns[0]) for ours, columns in found.items() if columns}


def csv_table(records: Sequence[Mapping[str, object]]) -> str:
    """Records of the same fields as CSV, as ``read_csv`` reads them; a missing value is an empty cell."""
    text = io.StringIO(newline="")
    lines = csv.DictWriter(text, list(records[0]))
    lines.writeheader()
    lines.writerows(records)
    return text.getvalue()


def _bad_line(number: int, reason: str) -> Fault:
    return Fault(line=number, given=reason, allowed="cells separated by commas, as many as the header line has")


def _plain(column: NDArray[np.float64] | NDArray[np.object_], field: Field) -> list[float | int | str | None]:
    """A column as JSON has it: a whole number without a point."""
    if column.dtype == object:
        return list(column.tolist())
    kind = int if field.kind == "integer" else float
    return [None if value != value else kind(value) for value in column.tolist()]


# --- answers ---

CSV_COLUMNS = ("key", "probability", "outlier", "band", "warnings")
"""Columns of an answer as CSV; with reasons also the next one."""
REASONS_COLUMN = "reasons"


def csv_header(*, explain: bool) -> bytes:
    """The first line of an answer as CSV."""
    return _csv([[*CSV_COLUMNS, REASONS_COLUMN] if explain else CSV_COLUMNS])


def csv_lines(records: Iterable[ScoredRecord]) -> bytes:
    """Scored records as CSV: a line for each, in the request's order.

    Warnings and reasons are sentences, joined by ``; ``. What a spreadsheet would take for a formula comes with an
    apostrophe before it, behind semicolons too: in some countries they end a cell.
    """
    return _csv(map(_cells, records))


def _csv(rows: Iterable[Iterable[str | int | float]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cells(record: ScoredRecord) -> list[str | int | float]:
    cells: list[str | int | float] = [
        _cell(record.key),
        record.probability,
        "true" if record.outlier else "false",
        _cell(record.band),
        _cell("; ".join(warning.text for warning in record.warnings or ())),
    ]
    if not isinstance(record.reasons, msgspec.UnsetType):
        cells.append(_cell("; ".join(reason.text for reason in record.reasons)))
    return cells


def _cell(value: str | int | float | msgspec.UnsetType) -> str | int | float:
    if isinstance(value, msgspec.UnsetType):
        return ""
    return _FORMULA.sub(r"\1'\2", value) if isinstance(value, str) else value


def json_lines(records: Iterable[ScoredRecord]) -> bytes:
    """Scored records as JSON, a line for each, in the request's order."""
    return _line_encoder.encode_lines(list(records))
