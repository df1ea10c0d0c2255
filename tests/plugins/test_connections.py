"""What a connection says is read in one way, wherever its parts are written."""

import itertools

import pytest
from airflow.models.connection import Connection
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.hooks.connections import AddressError, address


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://tools/mlflow", "http://tools/mlflow"),
        ("http://tools:5000/mlflow", "http://tools:5000/mlflow"),
        ("https://tools.example.com/mlflow", "https://tools.example.com/mlflow"),
        ("http://tools.example.com/https", "https://tools.example.com"),
        ("http://https%3A%2F%2Fhooks.example.com", "https://hooks.example.com"),
        ("http://:p@tools:8080/a%2Fb", "http://tools:8080/a/b"),
    ],
)
def test_address_of_a_connection_that_is_written_as_a_uri(uri, expected):
    assert address(Connection(conn_id="mlflow", uri=uri)) == expected


names = st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z]{2,5}){0,2}", fullmatch=True)
paths = st.lists(st.from_regex(r"[a-z0-9_-]{1,6}", fullmatch=True), max_size=2).map("/".join)


@given(st.sampled_from(["http", "https"]), names, st.none() | st.integers(1, 65535), paths, st.booleans())
def test_every_way_to_write_an_address_gives_the_same(scheme, name, port, path, slash):
    """Scheme, port and path in host, in their own members, or the path in schema: the address is one."""
    expected = "/".join(filter(None, [f"{scheme}://{name}" + (f":{port}" if port else ""), path]))
    for whole, port_in_host, path_in_schema in itertools.product([True, False], repeat=3):
        host = f"{scheme}://{name}" if whole else name
        host += f":{port}" if port and port_in_host else ""
        in_host, in_schema = ("", path) if path_in_schema and (whole or scheme == "http") else (path, "")
        host += f"/{in_host}" if in_host or slash else ""
        schema = in_schema or (None if whole else scheme)
        own_port = None if port_in_host else port
        written = Connection(conn_id="c", conn_type="http", host=host, schema=schema, port=own_port)
        assert address(written) == expected, (host, schema, own_port)


@pytest.mark.parametrize("host", [None, "", "ftp://files.example.com", "https://"])
def test_connection_without_an_address_is_told_what_to_write(host):
    with pytest.raises(AddressError, match=r"connection 'mlflow' has the host .* write a name such as"):
        address(Connection(conn_id="mlflow", conn_type="http", host=host))


def test_bare_address_of_version_six_is_bracketed():
    assert address(Connection(conn_id="c", conn_type="http", host="::1", port=8080)) == "http://[::1]:8080"
