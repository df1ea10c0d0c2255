"""The slow reader: what the fast one has refused is read by the table of spellings, or told with all its faults."""

import codecs
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.errors import FAULTS_SHOWN, ContractViolated, Fault, Problem, Unparsable
from serving.scoring.contract import Contract, Field
from serving.scoring.csv_lines import is_utf_16
from serving.scoring.encode import as_columns, encode_fields
from serving.scoring.spelling import SHOWN, Refusal, hold, limits, number_text, takes_truth, text_limit, typed

COUNTED = 10_000
"""Faults after which counting ends."""


def reread(body: bytes, contract: Contract, error: Exception) -> tuple[NDArray[np.float64], bytes]:
    """A body that the fast reader refused with ``error``: its encoded fields, and the body as it was understood.

    The fast reader takes the usual spellings alone, so a body may be right. Raises the problem with one that is not:
    every fault, or why it is not JSON.
    """
    if not isinstance(error, msgspec.ValidationError):
        raise not_json(body, contract, error) from error
    try:
        records = msgspec.json.decode(body)
    except msgspec.ValidationError as cause:  # a number beyond what a double holds
        fault = Fault(given=str(cause)[:SHOWN], allowed="numbers of up to 1.8e308")
        raise ContractViolated("a number is out of range", [fault], 1) from cause
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
        return reread(body, contract, cause)
    if not isinstance(records, list):
        raise _no_list(records, contract) from error
    if faults := list(itertools.islice(_faults(records, contract), COUNTED)):
        raise violations(faults, len(records)) from error
    refuse_repeated_fields(body)
    fields = {field.name: field for field in contract.fields}
    understood = [{name: typed(value, fields[name]) for name, value in record.items()} for record in records]
    return encode_fields(as_columns(understood, contract), contract), msgspec.json.encode(understood)


def not_json(body: bytes, contract: Contract, error: Exception) -> Problem:
    """What somebody took for JSON, by its name; ``error`` is the reader's."""
    if isinstance(error, RecursionError):
        return Unparsable("the body is nested too deeply; records are flat objects")
    if body.startswith(codecs.BOM_UTF8):
        return Unparsable("the body begins with a byte order mark (EF BB BF): send UTF-8 without one")
    if is_utf_16(body):
        return Unparsable("the body is in UTF-16 or UTF-32: send it in UTF-8")
    if shown := list(itertools.islice(_constants(body, contract), FAULTS_SHOWN)):
        detail = "NaN and Infinity are not JSON, though some libraries write them: send null for a missing value"
        return Unparsable(detail, shown, len(shown))
    return Unparsable(f"the body is not JSON in UTF-8: {error}")


class _Constant(str):
    """``NaN``, ``Infinity`` or ``-Infinity`` where a body has it."""


def _constants(body: bytes, contract: Contract) -> Iterator[Fault]:
    """Every field of a record that holds what only looks like JSON's numbers."""
    fields = {field.name: field for field in contract.fields}
    try:
        records = json.loads(body, parse_constant=_Constant)
    except (ValueError, RecursionError):  # that is not all that is wrong with it
        return
    for index, record in enumerate(records if isinstance(records, list) else [records]):
        values = record.items() if isinstance(record, dict) else [("", record)]
        for name, value in values:
            if isinstance(value, _Constant):
                field = fields.get(name)
                words = allowed(field) if field else "JSON"
                yield Fault(record=index, field=name[:SHOWN] or None, given=str(value), allowed=words)


def refuse_repeated_fields(body: bytes) -> None:
    """Raise ``ContractViolated`` where a record has a key twice: some readers take the first, others the last.

    The body is one that the reader has taken, a list of flat objects.
    """
    index = itertools.count()
    faults: list[Fault] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        record = next(index)
        for name, count in Counter(name for name, _ in pairs).items():
            if count > 1:
                given = f"{count} times in the record"
                faults.append(Fault(record=record, field=name, given=given, allowed="each field once"))

    json.loads(body, object_pairs_hook=look)
    if faults:
        raise violations(faults, next(index))


def violations(faults: list[Fault], records: int, detail: str = "") -> Problem:
    """The problem with records that have these faults; ``detail``: what is said of them where it is not their count."""
    total = len(faults)
    found = f"at least {total}" if total == COUNTED else str(total)
    more = f", the first {FAULTS_SHOWN} are listed" if total > FAULTS_SHOWN else ""
    detail = detail or f"{found} fault{'s' * (total != 1)} in {records} record{'s' * (records != 1)}"
    return ContractViolated(f"{detail}{more}", faults[:FAULTS_SHOWN], total)


def no_records(given: str = "[]") -> Problem:
    """The problem with an empty list."""
    return ContractViolated("the body has no record", [Fault(allowed="at least one record", given=given)], 1)


_SPLIT = "[dict(zip({0}['columns'], row)) for row in {0}['data']]"
_COLUMNS = "[dict(zip({0}, row)) for row in zip(*{0}.values())]"
_ENVELOPES = ("dataframe_records", "dataframe_split", "inputs", "instances")
"""The members in which clients of MLflow send a table."""


def _no_list(body: Any, contract: Contract) -> Problem:
    """The problem with a body that is not a list, and what would be one."""
    fault = Fault(allowed="a JSON list of records", given=shown(body))
    detail = "the body is not a list of records"
    if not isinstance(body, dict):
        return ContractViolated(detail, [fault], 1)
    for name in _ENVELOPES:
        if name in body:
            sent = f"payload['{name}']"
            form = _SPLIT if name == "dataframe_split" else _COLUMNS if isinstance(body[name], dict) else "{0}"
            detail = f"this is MLflow's envelope {name}: send the list itself: json={form.format(sent)}"
            return ContractViolated(detail, [fault], 1)
    if body.keys() & {field.name for field in contract.fields}:
        detail = "the body is one record: send a list, which may have one record alone: json=[payload]"
    return ContractViolated(detail, [fault], 1)


def allowed(field: Field) -> str:
    """What a field may hold, in words."""
    if field.kind == "category":
        such = f", such as {_listed(field.categories)}" if field.categories else ""
        text = f"text of up to {text_limit(field)} characters{such}"
        if takes_truth(field) and field.categories:
            text += ", or true or false"
    else:
        text = "a whole number" if field.kind == "integer" else "a number"
        low, high = limits(field)
        if low is not None and high is not None:
            text += f" from {number_text(low)} to {number_text(high)}"
        elif low is not None:
            text += f" of at least {number_text(low)}"
        elif high is not None:
            text += f" of at most {number_text(high)}"
        if field.unit:
            text += f" ({field.unit})"
    return f"{text}, or null" if field.nullable else text


def _listed(categories: tuple[str, ...]) -> str:
    return ", ".join(repr(category) for category in categories[:10])


def _faults(records: list[Any], contract: Contract) -> Iterator[Fault]:
    fields = {field.name: field for field in contract.fields}
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            yield Fault(record=index, allowed="an object with the contract's fields", given=shown(record))
            continue
        for name, field in fields.items():
            if name in record:
                if refusal := _refusal(record[name], field):
                    yield value_fault(index, field, record[name], refusal)
            elif field.required:
                yield Fault(record=index, field=name, allowed=f"{allowed(field)}; the field must be there")
        for name in record.keys() - fields.keys():
            yield Fault(record=index, field=str(name)[:SHOWN], allowed="only fields of the contract")


def value_fault(record: int, field: Field, value: Any, refusal: Refusal, line: int | None = None) -> Fault:
    """A value that was refused."""
    words = f"{allowed(field)}; {refusal.hint}" if refusal.hint else allowed(field)
    return Fault(record=record, line=line, field=field.name, given=shown(value), allowed=words)


def _refusal(value: Any, field: Field) -> Refusal | None:
    try:
        hold(typed(value, field), field)
    except Refusal as refusal:
        return refusal
    return None


def shown(value: Any) -> str:
    """A wrong value, shortened; of lists and objects only what they are, for they may hold whole records."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"a whole number of {value.bit_length()} bits"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
