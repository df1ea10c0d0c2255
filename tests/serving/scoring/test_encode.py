"""Records and tables become the same numbers by every way."""

import json

import numpy as np
import pytest

from serving.scoring.bundle import Bundle
from serving.scoring.contract import Contract, OutlierRule
from serving.scoring.encode import EncodeError, as_columns, encode_columns, encode_fields, encode_records
from serving.scoring.records import RecordReader
from tests.support.serving_bundles import FLATS, Attrition, flats_columns

FLATS_CONTRACT = Contract(2, "flats", "Flat Finder", "", FLATS, OutlierRule(1, 1.0, -0.5), 10)


def test_encode_columns_gives_positions_unknown_as_minus_one_and_missing_as_nan() -> None:
    columns = {
        "square metres": [10, None, float("nan")],
        "Stadtteil": ["Süd", "Ost", None],
        "heating": ["wood", float("nan"), "gas"],
        "rooms": np.array([1, 2, 3]),
    }
    expected = [[10, 1, 1, 1, np.nan], [np.nan, -1, np.nan, 2, np.nan], [np.nan, np.nan, 0, 3, np.nan]]
    encoded = encode_columns(columns, FLATS_CONTRACT)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"rooms": ["two"]}, "rooms: row 0 holds 'two': not a number"),
        ({"heating": [3]}, 'heating: row 0 holds 3: not text: send it in quotes: "3"'),
        ({"rooms": [1, 2], "heating": ["gas"]}, "heating: the column has 1 values where others have 2"),
    ],
    ids=["text-for-number", "number-for-text", "lengths"],
)
def test_encode_columns_of_wrong_values_names_the_field(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        encode_columns(columns, FLATS_CONTRACT)


def test_json_reader_tables_and_records_encode_real_data_alike(attrition: Attrition, bundle: Bundle) -> None:
    records = [*attrition.records(200), *attrition.examples["records"]]
    read = RecordReader(bundle.contract).read(json.dumps(records).encode())
    np.testing.assert_array_equal(read, encode_fields(as_columns(records, bundle.contract), bundle.contract))
    np.testing.assert_array_equal(
        encode_records(records, bundle.contract), encode_columns(as_columns(records, bundle.contract), bundle.contract)
    )


def test_json_reader_encodes_any_contract_like_the_table_encoder() -> None:
    columns = flats_columns(50)
    columns["heating"] = ["gas", "coal"] * 25
    columns["Stadtteil"][:3] = ["unknown", "unknown_", "Süd"]
    records = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for name in ("Stadtteil", "id", "floor: level"):
        del records[5][name]
        columns[name][5] = None
    read = RecordReader(FLATS_CONTRACT).read(json.dumps(records).encode())
    np.testing.assert_array_equal(read, encode_fields(columns, FLATS_CONTRACT))
