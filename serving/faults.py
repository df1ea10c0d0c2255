"""What exactly is wrong with a request's records. Runs only after the fast reader has refused them."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import msgspec

from serving.problems import FAULTS_SHOWN, ContractViolated, Fault, Problem, Unparsable
from serving.scoring.contract import Contract, Field
from serving.scoring.records import TEXT_LIMIT

_SHOWN = 60  # characters of a wrong value
_COUNTED = 10_000  # faults after which counting ends


def explain(body: bytes, contract: Contract, error: Exception) -> Problem:
    """The problem with a body that the reader refused with ``error``: every fault, or where it is no JSON."""
    if isinstance(error, RecursionError):
        return Unparsable("the body is nested too deeply; records are flat objects")
    if not isinstance(error, msgspec.ValidationError):
        return Unparsable(f"the body is no JSON in UTF-8: {error}")
    try:
        records = msgspec.json.decode(body)
    except msgspec.ValidationError:  # a number beyond what a double holds
        fault = Fault(given=str(error)[:_SHOWN], allowed="numbers of up to 1.8e308")
        return ContractViolated("a number is out of range", [fault], 1)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
        return explain(body, contract, cause)
    if not isinstance(records, list):
        fault = Fault(allowed="a JSON list of records", given=_shown(records))
        return ContractViolated("the body is no list of records", [fault], 1)
    return _violations(records, contract)


def _violations(records: list[Any], contract: Contract) -> Problem:
    shown: list[Fault] = []
    total = 0
    for fault in itertools.islice(_faults(records, contract), _COUNTED):
        total += 1
        if total <= FAULTS_SHOWN:
            shown.append(fault)
    found = f"at least {total}" if total == _COUNTED else str(total)
    more = f", the first {FAULTS_SHOWN} are listed" if total > FAULTS_SHOWN else ""
    detail = f"{found} fault{'s' if total > 1 else ''} in {len(records)} records{more}"
    return ContractViolated(detail, shown, total)


def no_records() -> Problem:
    """The problem with an empty list."""
    return ContractViolated("the list has no record", [Fault(allowed="at least one record", given="[]")], 1)


def allowed(field: Field) -> str:
    """What a field may hold, in words."""
    if field.kind == "category":
        such = f", such as {_listed(field.categories)}" if field.categories else ""
        text = f"text of up to {TEXT_LIMIT} characters{such}"
    else:
        text = "a whole number" if field.kind == "integer" else "a number"
        if field.minimum is not None and field.maximum is not None:
            text += f" from {field.minimum:g} to {field.maximum:g}"
        elif field.minimum is not None:
            text += f" of at least {field.minimum:g}"
        elif field.maximum is not None:
            text += f" of at most {field.maximum:g}"
        if field.unit:
            text += f" ({field.unit})"
    return f"{text}, or null" if field.nullable else text


def _listed(categories: tuple[str, ...]) -> str:
    return ", ".join(repr(category) for category in categories[:10])


def _faults(records: list[Any], contract: Contract) -> Iterator[Fault]:
    fields = {field.name: field for field in contract.fields}
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            yield Fault(record=index, allowed="an object with the contract's fields", given=_shown(record))
            continue
        for name, field in fields.items():
            if name in record:
                if not _fits(record[name], field):
                    yield Fault(record=index, field=name, given=_shown(record[name]), allowed=allowed(field))
            elif field.required:
                yield Fault(record=index, field=name, allowed=f"{allowed(field)}; the field must be there")
        for name in record.keys() - fields.keys():
            yield Fault(record=index, field=str(name)[:_SHOWN], allowed="only fields of the contract")


def _fits(value: Any, field: Field) -> bool:
    if value is None:
        return field.nullable
    if field.kind == "category":
        return isinstance(value, str) and (len(value) <= TEXT_LIMIT or value in field.categories)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        number = float(value)
    except OverflowError:
        return False
    if not math.isfinite(number) or (field.kind == "integer" and not number.is_integer()):
        return False
    return not (
        (field.minimum is not None and number < field.minimum) or (field.maximum is not None and number > field.maximum)
    )


def _shown(value: Any) -> str:
    """A wrong value, shortened; of lists and objects only what they are, for they may hold whole records."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"a whole number of {value.bit_length()} bits"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
