"""Read a table, and hold it to the data contract at the door.

A file is CSV (UTF-8, with or without byte-order mark) or Parquet, with the columns of the use case and at most the
technical columns of a curated table. Its values are read by ``serving.scoring.spelling``. What is wrong with it is
found all at once and told by column, with the number of rows.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving.scoring.contract import Field
from serving.scoring.encode import encode_columns
from training.data.data_error import DataError, DataFault
from training.data.read_file import read_raw
from training.data.table import Table, frame_digest, split_table
from training.use_case import UseCase

HOLDOUT_SHARE = 0.2
MINIMUM_HOLDOUT_CLASS = 3
"""Rows of either outcome in the hold-out."""
MINIMUM_DEVELOPMENT_CLASS = 10
"""Rows of either outcome outside it: each of the five folds has to meet two."""
_RECENT = "lifecycle.recent"
"""Column of a snapshot. A field may have any name, but hardly this one."""
_RECENT_CLASS = 10
"""Rows of either outcome that recent hold-out rows must have to be compared on alone."""


class Dataset(msgspec.Struct, frozen=True):
    """Checked rows of one use case."""

    use_case: UseCase
    frame: pd.DataFrame
    """Fields in contract order, then the label: numbers as float64, texts as object."""
    digest: str
    """Sixteen hexadecimal digits over all values of the table that the rows were taken from: equal tables have equal
    digests, whatever the file type."""
    recent: NDArray[np.bool_] | None = None
    """Which rows came with the outcomes feed, bool ``[n]``; ``None`` for a table that names no effective dates."""

    @property
    def labelled(self) -> int:
        """How many rows came with the outcomes feed."""
        return 0 if self.recent is None else int(self.recent.sum())

    @property
    def y(self) -> NDArray[np.int64]:
        """1 for the label's positive value, 0 for the other, int64 ``[n]``."""
        label = self.use_case.binary
        return np.asarray(self.frame[label.field].map(label.values), np.int64)

    @property
    def x(self) -> NDArray[np.float32]:
        """The encoded matrix, float32 ``[n, features]``."""
        return encode_columns(self.columns(), self.use_case)

    @property
    def groups(self) -> NDArray[Any]:
        """What each row is about, ``[n]``: rows of one group are never split between training and test.

        The key's values, int64 or text. Without a key a hash of the row's fields: every row stands for itself, and only
        rows that are equal to the last value belong together.
        """
        return groups_of(self.frame, self.use_case.key, self.use_case.fields)

    def columns(self) -> dict[str, NDArray[np.object_]]:
        """The request fields as dict of columns, as the scoring package takes them."""
        return columns_of(self.frame, self.use_case.fields)

    def take(self, rows: NDArray[np.bool_]) -> "Dataset":
        """Some of the rows, chosen by bool ``[n]``."""
        frame = self.frame[rows].reset_index(drop=True)
        return Dataset(self.use_case, frame, self.digest, None if self.recent is None else self.recent[rows])


def read_table(use_case: UseCase, location: str) -> Dataset:
    """Read and check a CSV or Parquet file, a folder of Parquet files, or a Delta table.

    ``location`` is a path or a URI that pandas can open; on Databricks a path below ``/Volumes`` is best.
    Raises ``DataError`` with every fault found.
    """
    # Only where files come in: pandera takes half a second to import, and every task of the job imports this.
    from training.data.validation import find_faults

    raw = read_raw(location)
    faults = find_faults(use_case, raw)
    if faults:
        raise DataError(location, faults)
    table = split_table(use_case, raw)
    frame = _frame(use_case, table)
    recent = None
    if table.dates is not None:
        # Row order must not depend on how an engine wrote the table.
        order = pd.DataFrame({"group": Dataset(use_case, frame, "").groups, "date": table.dates})
        order = order.sort_values(["group", "date"], kind="stable")
        frame = frame.loc[order.index].reset_index(drop=True)
        recent = order["date"].notna().to_numpy()
    dataset = Dataset(use_case, frame, frame_digest(frame), recent)
    if faults := _split_faults(dataset):
        raise DataError(location, faults)
    return dataset


def write_snapshot(dataset: Dataset, file: Path) -> None:
    """Keep checked data as a Parquet file for ``read_snapshot``."""
    frame = dataset.frame if dataset.recent is None else dataset.frame.assign(**{_RECENT: dataset.recent})
    frame.to_parquet(file, index=False)


def read_snapshot(use_case: UseCase, file: Path, name: str = "that the job has kept") -> Dataset:
    """Data that ``write_snapshot`` kept, as it was. It has been checked, so its values are not checked again.

    The use case may have got fields since, or lost some: a new one holds missing values. Of a field of another kind, a
    number becomes a text, and a text the number that it says, or is missing. The digest is of the data as kept. What no
    row may lack is asked for: raises ``DataError``, with ``name`` for the file, where the key or the label is another
    one by now.
    """
    frame = pd.read_parquet(file)
    recent = frame.pop(_RECENT).to_numpy(bool) if _RECENT in frame else None
    digest = frame_digest(frame)
    if faults := _renamed(use_case, frame):
        raise DataError(name, faults, "nothing can be made of it")
    for field in use_case.fields:
        frame[field.name] = _as_today(field, frame.get(field.name), len(frame))
    frame[use_case.label.field] = frame[use_case.label.field].astype(object)
    columns = [*(field.name for field in use_case.fields), use_case.label.field]
    return Dataset(use_case, frame[columns], digest, recent)


def snapshot_digest(file: Path) -> str:
    """The digest of the data that ``write_snapshot`` kept, whatever the definition says by now."""
    return frame_digest(pd.read_parquet(file).drop(columns=_RECENT, errors="ignore"))


def _renamed(use_case: UseCase, frame: pd.DataFrame) -> list[DataFault]:
    """What the definition calls key or label and these rows do not have, and values that are not the label's."""
    label = use_case.binary
    asked = {"key": use_case.key, "label": label.field}
    faults = [
        DataFault(
            name, None, f"it is the {what} of the definition, and these rows have no such column: name it as before, "
            "or train on a file that has it, and release that version"
        )
        for what, name in asked.items()
        if name is not None and name not in frame
    ]  # fmt: skip
    if label.field in frame:
        known = frame[label.field].isin(list(label.values))
        if others := sorted(map(str, frame.loc[~known, label.field].unique())):
            message = (
                f"not one of {', '.join(label.values)}, which are the definition's values by now: {', '.join(others)}; "
                "spell them as before, or train on a file that has them, and release that version"
            )
            faults.append(DataFault(label.field, int((~known).sum()), message))
    return faults


def _as_today(field: Field, kept: "pd.Series[Any] | None", rows: int) -> "pd.Series[Any]":
    """A column of a snapshot, or none, as the field's kind of today."""
    is_text, is_number = field.kind == "category", kept is not None and pd.api.types.is_numeric_dtype(kept)
    if kept is None:
        return pd.Series([None] * rows, dtype=object if is_text else float)
    if is_text:
        return kept.map(_spelled).astype(object) if is_number else kept.astype(object).where(kept.notna(), None)
    return kept if is_number else pd.to_numeric(kept, errors="coerce")


def _spelled(number: float) -> str | None:
    """A number as a request would write it."""
    if pd.isna(number):
        return None
    return str(int(number)) if number == int(number) else str(number)


def snapshot_frame(file: Path, fields: Sequence[Field]) -> pd.DataFrame:
    """The table of a snapshot, with the ``fields`` that it was made with: texts as object, missing ones ``None``."""
    frame = pd.read_parquet(file)
    texts = [field.name for field in fields if field.kind == "category"]
    frame = frame.astype(dict.fromkeys(texts, object))
    frame[texts] = frame[texts].where(frame[texts].notna(), None)
    return frame


def columns_of(frame: pd.DataFrame, fields: Sequence[Field]) -> dict[str, NDArray[np.object_]]:
    """The request fields of a table as dict of columns, as the scoring package takes them."""
    return {field.name: frame[field.name].to_numpy(object) for field in fields}


def groups_of(frame: pd.DataFrame, key: str | None, fields: Sequence[Field]) -> NDArray[Any]:
    """What each row of a table is about, ``[n]``; see ``Dataset.groups``."""
    if key is None:
        return _row_hashes(frame[[field.name for field in fields]])
    keys = frame[key]
    whole = keys.dtype != object and bool((keys % 1 == 0).all())
    return np.asarray(keys, np.int64 if whole else object)


def holdout_rows(use_case: UseCase, groups: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows are the hold-out, bool ``[n]``, from ``Dataset.groups``.

    A group belongs to the hold-out by the hash of its key alone, in every run and every later table. So no version of
    the model has ever been trained on hold-out rows, and a champion can be compared with its challenger on them.
    """
    limit = int(HOLDOUT_SHARE * 2**32)

    def chosen(group: object) -> bool:
        hashed = hashlib.sha256(f"{use_case.name}-holdout-1:{group}".encode()).digest()
        return int.from_bytes(hashed[:4]) < limit

    return np.fromiter((chosen(group) for group in groups.tolist()), bool, count=len(groups))


def compared_rows(holdout: Dataset) -> NDArray[np.bool_]:
    """The rows of a hold-out that champion and challenger are compared on, bool ``[n]``.

    The recent ones, for they are what production sees now; all, where these are too few to tell.
    """
    every = np.ones(len(holdout.y), bool)
    if holdout.recent is None:
        return every
    positives = int(holdout.y[holdout.recent].sum())
    return holdout.recent if min(positives, int(holdout.recent.sum()) - positives) >= _RECENT_CLASS else every


def _frame(use_case: UseCase, table: Table) -> pd.DataFrame:
    """The checked columns in contract order. A column that may be absent, and is, holds missing values."""
    rows = table.frame.index
    absent = pd.Series(np.full(len(rows), None, object), rows)
    columns = {field.name: table.frame.get(field.name, _nothing(field, absent)) for field in use_case.fields}
    return pd.DataFrame({**columns, use_case.label.field: table.frame[use_case.label.field]}, rows)


def _nothing(field: Field, absent: pd.Series) -> pd.Series:
    return absent if field.kind == "category" else absent.astype(np.float64)


def _split_faults(dataset: Dataset) -> list[DataFault]:
    """What is wrong with a good table once it is divided into development and hold-out rows."""
    use_case = dataset.use_case
    held_out = holdout_rows(use_case, dataset.groups)
    faults = [
        DataFault(
            field.name, None, "all its values fall into the hold-out: there is nothing to train on; give more rows"
        )
        for field in use_case.features
        if not dataset.frame.loc[~held_out, field.name].notna().any()
    ]
    label = use_case.binary
    for words, value in ((label.positives, 1), (label.negatives, 0)):
        tested = int((dataset.y[held_out] == value).sum())
        if tested < MINIMUM_HOLDOUT_CLASS:
            message = f"only {tested} {words} fall into the hold-out: too few to judge a model by"
            faults.append(DataFault("table", None, f"{message}; give more rows"))
        trained = int((dataset.y[~held_out] == value).sum())
        if trained < MINIMUM_DEVELOPMENT_CLASS:
            message = f"only {trained} {words} fall outside the hold-out: too few to train on"
            faults.append(DataFault("table", None, f"{message}; give more rows"))
    return faults


def _row_hashes(frame: pd.DataFrame) -> NDArray[np.object_]:
    """A hash of each row's values, ``[n]``; numbers as ``frame_digest`` writes them, missing ones as the empty text."""
    texts = []
    for name in frame.columns:
        values = frame[name]
        if values.dtype == object:
            texts.append([repr(value) if isinstance(value, str) else "" for value in values])
        else:
            texts.append(["" if value != value else f"{value:.9g}" for value in values.tolist()])
    rows = (",".join(row).encode() for row in zip(*texts, strict=True))
    return np.array([hashlib.sha256(row).hexdigest()[:16] for row in rows], object)
