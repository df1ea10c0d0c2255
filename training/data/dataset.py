"""Read a data file, and hold it to the data contract at the door.

A file is CSV (UTF-8, with or without byte-order mark) or Parquet, with the 35 columns of
``use_cases.attrition.fields`` and at most the technical columns of a curated table. What is wrong with it is found
all at once and told by column, with the number of rows.
"""

import hashlib
import os
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serving.scoring.contract import Field
from serving.scoring.encode import encode_columns
from training.data.data_error import DataError, DataFault
from training.export.contract import request_contract
from use_cases.attrition.fields import COLUMNS, FIELDS, IDENTIFIER, LABEL, LABELS

HOLDOUT_SHARE = 0.2
_HOLDOUT_SALT = "attrition-holdout-1"
EFFECTIVE_DATE = "effective_date"
MINIMUM_HOLDOUT_LEAVERS = 3
_RECENT = "recent"
_RECENT_CLASS = 10
"""Leavers and stayers that recent hold-out rows must have to be compared on alone."""


class Employees(msgspec.Struct, frozen=True):
    """Checked data. ``frame`` holds the 35 columns in contract order, numbers as float64, texts as object."""

    frame: pd.DataFrame
    digest: str
    """Sixteen hexadecimal digits over all values: equal data has an equal digest, whatever the file type."""
    recent: NDArray[np.bool_] | None = None
    """Which rows came with the outcomes feed, bool ``[n]``; ``None`` for a file that names no effective dates."""

    @property
    def y(self) -> NDArray[np.int64]:
        """1 = left, int64 ``[n]``."""
        return np.asarray(self.frame[LABEL].map(LABELS), np.int64)

    @property
    def x(self) -> NDArray[np.float32]:
        """The encoded matrix, float32 ``[n, features]``."""
        return encode_columns(self.columns(), request_contract())

    @property
    def groups(self) -> NDArray[np.int64]:
        """The employee of each row: rows of one employee are never split between training and test."""
        return np.asarray(self.frame[IDENTIFIER], np.int64)

    def columns(self) -> dict[str, NDArray[np.object_]]:
        """The request fields as dict of columns, as the scoring package takes them."""
        return {field.name: self.frame[field.name].to_numpy(object) for field in FIELDS}

    def take(self, rows: NDArray[np.bool_]) -> "Employees":
        """Some of the rows, with their own digest."""
        frame = self.frame[rows].reset_index(drop=True)
        return Employees(frame, _digest(frame), None if self.recent is None else self.recent[rows])


def read_employees(location: str) -> Employees:
    """Read and check a CSV or Parquet file, or a folder of Parquet files.

    ``location`` is a path or a URI that pandas can open; on Databricks a path below ``/Volumes`` is best.
    Raises ``DataError`` with every fault found.
    """
    # Only where files come in: pandera takes half a second to import, and every task of the job imports this.
    from training.data.validation import find_faults

    raw = read_raw(location)
    faults = find_faults(raw)
    if faults:
        raise DataError(location, faults)
    frame = pd.DataFrame({field.name: _column(raw[field.name], field) for field in FIELDS})
    frame[LABEL] = raw[LABEL].astype(object)
    recent = None
    if EFFECTIVE_DATE in raw:
        # Row order must not depend on how an engine wrote the table.
        order = raw.assign(_number=frame[IDENTIFIER]).sort_values(["_number", EFFECTIVE_DATE], kind="stable")
        frame = frame.loc[order.index].reset_index(drop=True)
        recent = order[EFFECTIVE_DATE].notna().to_numpy()
    employees = Employees(frame, _digest(frame), recent)
    leavers = int(employees.y[holdout_rows(employees.groups)].sum())
    if leavers < MINIMUM_HOLDOUT_LEAVERS:
        message = f"only {leavers} leavers fall into the hold-out: too few to judge a model by; give more rows"
        raise DataError(location, [DataFault("table", None, message)])
    return employees


def write_snapshot(employees: Employees, file: Path) -> None:
    """Keep checked data as a Parquet file for ``read_snapshot``."""
    frame = employees.frame if employees.recent is None else employees.frame.assign(**{_RECENT: employees.recent})
    frame.to_parquet(file, index=False)


def read_snapshot(file: Path) -> Employees:
    """Data that ``write_snapshot`` kept, as it was. It has been checked, so it is not checked again."""
    frame = pd.read_parquet(file)
    recent = frame.pop(_RECENT).to_numpy(bool) if _RECENT in frame else None
    texts = [field.name for field in FIELDS if field.kind == "category"]
    frame = frame.astype(dict.fromkeys([*texts, LABEL], object))
    frame[texts] = frame[texts].where(frame[texts].notna(), None)
    return Employees(frame, _digest(frame), recent)


def read_raw(location: str) -> pd.DataFrame:
    """The file as it is: CSV values as text, empty ones as missing. Raises ``DataError``."""
    if not location:
        raise DataError("(none)", [DataFault("file", None, "no location is given: set the parameter data")])
    try:
        if location.removesuffix("/").endswith(".csv"):
            return _read_csv(_local(location))
        return pd.read_parquet(_local(location))
    except FileNotFoundError:
        message = "it does not exist where the job runs: check the path and its spelling"
    except PermissionError:
        message = "the job may not read it: check the file's rights"
    except IsADirectoryError:
        message = "it is a folder: name the CSV file, or a folder of Parquet files without .csv in its name"
    except pd.errors.EmptyDataError:
        message = "it is empty: a header line and one line for each employee are expected"
    except UnicodeDecodeError as error:
        message = f"it is not UTF-8 text ({error.reason} at byte {error.start}): save it as CSV UTF-8"
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        message = f"it is not a CSV table ({str(error).strip()}): every line needs the header's columns"
    except (OSError, ValueError, ImportError) as error:
        message = f"it cannot be read as CSV (name ends in .csv) or Parquet ({error})"
    raise DataError(location, [DataFault("file", None, message)])


def _read_csv(path: str) -> pd.DataFrame:
    with warnings.catch_warnings():
        # Lines longer than the header: pandas would take the first column for row names, or drop the last.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(path, dtype="str", encoding="utf-8-sig", skipinitialspace=True, index_col=False)


def holdout_rows(groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows are the hold-out, bool ``[n]``.

    An employee belongs to the hold-out by the hash of the employee number alone, in every run and every
    later table. So no version of the model has ever been trained on hold-out rows, and a champion can be
    compared with its challenger on them.
    """
    limit = int(HOLDOUT_SHARE * 2**32)

    def chosen(number: int) -> bool:
        hashed = hashlib.sha256(f"{_HOLDOUT_SALT}:{number}".encode()).digest()
        return int.from_bytes(hashed[:4]) < limit

    return np.fromiter((chosen(int(number)) for number in groups), bool, count=len(groups))


def compared_rows(holdout: Employees) -> NDArray[np.bool_]:
    """The rows of a hold-out that champion and challenger are compared on, bool ``[n]``.

    The recent ones, for they are what production sees now; all, where these are too few to tell.
    """
    every = np.ones(len(holdout.y), bool)
    if holdout.recent is None:
        return every
    leavers = int(holdout.y[holdout.recent].sum())
    return holdout.recent if min(leavers, int(holdout.recent.sum()) - leavers) >= _RECENT_CLASS else every


def _local(location: str) -> str:
    """``dbfs:/x`` and ``file:/x`` as the paths that Databricks mounts."""
    if location.startswith("dbfs:/"):
        location = location.removeprefix("dbfs:")
        return location if location.startswith("/Volumes/") else f"/dbfs{location}"
    return os.path.expanduser(location.removeprefix("file://"))


def _column(values: pd.Series, field: Field) -> pd.Series:
    if field.kind == "category":
        return values.astype(object).where(values.notna(), None)
    return pd.to_numeric(values).astype(np.float64)


def _digest(frame: pd.DataFrame) -> str:
    text = frame[list(COLUMNS)].to_csv(index=False, float_format="%.9g", lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:16]
