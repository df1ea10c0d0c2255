"""What an answer says of each record, by the record's key."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from serving.metrics import MANY_RECORDS
from serving.scoring.bundle import Bundle, Result
from serving.scoring.contract import Contract
from serving.scoring.explain import Given, Reason, UnknownCategory

NOTE = f"Drift of fewer than {MANY_RECORDS} records means little: it compares a request with the training data."
REST = "rest"
"""The band of all records that are not in the top one."""


class ScoredRecord(msgspec.Struct, gc=False):
    """One record of the request. Members that there is nothing to say in are absent."""

    key: int | float | str | UnsetType
    probability: float
    outlier: bool
    band: str | UnsetType
    warnings: list[UnknownCategory] | UnsetType = UNSET
    base: float | UnsetType = UNSET
    """Log-odds of the average of the training data; the effects of ``reasons``, and ``other``, are added to it."""
    reasons: list[Reason] | UnsetType = UNSET
    """The fields that move the probability most, strongest first."""
    other: float | UnsetType = UNSET
    """The effects of all other fields together."""


class ScoredRecords:
    """Makes the member ``records`` of answers. Thread-safe."""

    def __init__(self, bundle: Bundle, between: Callable[[], None]) -> None:
        """``between`` is called between two parts of an answer."""
        self._bundle = bundle
        self._between = between
        self._band = bundle.contract.band
        self._keys = record_keys(bundle.contract)

    def parts(
        self, body: bytes, fields: NDArray[np.float64], result: Result, unknown: bool, at_once: int
    ) -> Iterator[list[ScoredRecord]]:
        """What is said of each record, in the order of the request. ``unknown``: some record has an unknown category.

        ``at_once``: for how many records at a time reasons are made; 0: without reasons, and all in one part.
        Raises ``NoReasonsError`` where reasons are asked for and the model gives none.
        """
        said = map(
            ScoredRecord,
            self._keys(body, fields),
            result.classifier__predictions,
            result.outliers__is_outlier,
            self._bands(result),
        )
        if not (unknown or at_once):
            yield list(said)
            return
        sent = functools.cache(lambda: msgspec.json.decode(body))  # few requests need it
        step = at_once or len(fields)
        for first in range(0, len(fields), step):
            if first:
                self._between()
            records = list(itertools.islice(said, step))

            def given(record: int, name: str, first: int = first) -> Any:
                return sent()[first + record][name]

            self._add(records, fields[first : first + step], given, bool(at_once))
            yield records

    def _bands(self, result: Result) -> Iterable[str | UnsetType]:
        if self._band is None:
            return itertools.repeat(UNSET)
        cut, top = self._band.cut, self._band.title
        return [top if probability > cut else REST for probability in result.classifier__predictions]

    def _add(self, records: list[ScoredRecord], fields: NDArray[np.float64], given: Given, explain: bool) -> None:
        """Warnings and reasons, which quote what was sent."""
        for record, warnings in self._bundle.unknown_categories(fields, given).items():
            records[record].warnings = warnings
        if explain:
            for scored, explained in zip(records, self._bundle.explain(fields, given), strict=True):
                scored.base, scored.reasons, scored.other = explained.base, explained.reasons, explained.other


def record_keys(contract: Contract) -> Any:
    """What finds the key of each record of a body that was read as fields; ``UNSET`` where it was not sent."""
    position = next((place for place, field in enumerate(contract.fields) if field.name == contract.key), None)
    if position is None:
        return lambda body, fields: itertools.repeat(UNSET)
    field = contract.fields[position]
    if field.kind != "category":
        kind = round if field.kind == "integer" else float
        return lambda body, fields: [kind(key) if key == key else UNSET for key in fields[:, position].tolist()]
    # A text that is not one of a few has no number: it is read once more.
    holder: Any = msgspec.defstruct("Key", [("key", str | None, None)], rename={"key": field.name})
    decoder = msgspec.json.Decoder(list[holder])
    return lambda body, fields: [UNSET if sent.key is None else sent.key for sent in decoder.decode(body)]
