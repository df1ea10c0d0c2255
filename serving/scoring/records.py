"""JSON records to numbers in one pass: structs generated from the contract validate and encode.

A category field's type is an enumeration whose members *are* their codes (floats), so that a parsed record
is a row of numbers already; an absent field is NaN, and ``None``, which stands for ``null``, becomes NaN.
"""

import enum
import itertools
import struct
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.scoring.contract import Contract, Field
from serving.scoring.encode import UNKNOWN, category_codes
from serving.scoring.spelling import limits, text_limit

_ABSENT = 0x7FF8_0000_0000_0001
"""The bits of the NaN that stands for a field that a record has not; a ``null`` becomes the usual NaN."""


class RecordReader:
    """Parses request bodies for one contract. Thread-safe.

    It takes nothing that ``serving.scoring.spelling`` does not take. What it refuses is read again by that, which is
    slower and has the last word.
    """

    def __init__(self, contract: Contract) -> None:
        fields = contract.fields
        self._width = len(fields)
        self._pack = struct.Struct(f"{self._width}d").pack
        self._colons = np.array([1 + field.name.count(":") for field in fields])
        self._all_colons = int(self._colons.sum())
        self._in_names = self._all_colons > self._width
        absent = struct.unpack("d", struct.pack("Q", _ABSENT))[0]
        self.record_type = msgspec.defstruct(
            "Record",
            [
                (f"field{position}", _field_type(field))
                if field.required
                else (f"field{position}", _field_type(field), absent)
                for position, field in enumerate(fields)
            ],
            rename={f"field{position}": field.name for position, field in enumerate(fields)},
            forbid_unknown_fields=True,
            kw_only=True,  # keeps the contract's order where an optional field comes before a required one
            gc=False,
        )
        self._decoder = msgspec.json.Decoder(list[self.record_type])  # type: ignore[name-defined]

    def read(self, body: bytes) -> NDArray[np.float64]:
        """A JSON list of records -> encoded fields ``[n, fields]``, as ``encode_fields`` makes them.

        Raises ``msgspec.DecodeError`` for what is not JSON, and its subclass ``msgspec.ValidationError`` for
        records that do not meet the contract.
        """
        records = self._decoder.decode(body)
        rows = map(msgspec.structs.astuple, records)
        shape = len(records), self._width
        try:
            return np.frombuffer(b"".join(itertools.starmap(self._pack, rows))).reshape(shape)
        except struct.error:  # a null, which takes a way of half the speed
            values = itertools.chain.from_iterable(map(msgspec.structs.astuple, records))
            return np.fromiter(values, np.float64, shape[0] * shape[1]).reshape(shape)

    def may_repeat(self, body: bytes, fields: NDArray[np.float64]) -> bool:
        """Whether a record of a body that was read as ``fields`` may have a key twice.

        If it has not, the body has a colon for each key, and those within names and texts. A name's may be escaped.
        """
        if self._in_names and b"\\" in body:
            return True
        absent = fields.view(np.uint64) == _ABSENT
        colons = len(fields) * self._all_colons
        if np.count_nonzero(absent):
            colons -= int(absent.sum(axis=0) @ self._colons)
        return int(np.count_nonzero(np.frombuffer(body, np.uint8) == ord(":"))) != colons


def _field_type(field: Field) -> Any:
    kind = _category_type(field) if field.kind == "category" else _number_type(field)
    return kind | None if field.nullable else kind


def _number_type(field: Field) -> Any:
    whole = 1.0 if field.kind == "integer" else None  # 3.0 is a whole number too, as JSON Schema has it
    low, high = limits(field)
    return Annotated[float, msgspec.Meta(ge=low, le=high, multiple_of=whole)]


def _category_type(field: Field) -> Any:
    """An enumeration of float members: each category's code, and one member for every unknown category."""

    def construct(cls: Any, category: str, code: float) -> Any:
        member = float.__new__(cls, code)
        member._value_ = category
        return member

    longest = text_limit(field)

    def missing(cls: Any, category: object) -> Any:
        if len(str(category)) > longest:
            raise ValueError(f"a category has at most {longest} characters")
        return unknown

    base = enum.EnumMeta.__prepare__("Category", (float, enum.Enum))
    base["__new__"] = construct
    base["_missing_"] = classmethod(missing)
    codes = category_codes(field)
    for position, (category, code) in enumerate(codes.items()):
        base[f"category{position}"] = (category, code)
    base["unknown"] = (_unlisted(codes), UNKNOWN)
    category_type = enum.EnumMeta("Category", (float, enum.Enum), base)
    unknown: Any = category_type["unknown"]
    return category_type


def _unlisted(codes: dict[str, float]) -> str:
    """A text that is not a category, as the name of all unknown ones."""
    name = "unknown"
    while name in codes:
        name += "_"
    return name
