"""The export in a storage account, on Azurite: ``make test-azurite``."""

from datetime import date, timedelta

import pytest
from airflow.models.connection import Connection
from azure.storage.blob import BlobServiceClient

from lifecycle import settings
from lifecycle.hooks.log_storage import SourceError, open_source
from lifecycle.tasks import retraining
from tests.support import azurite
from tests.support.airflow import USE_CASE, make_settings
from tests.support.nights import inference, open_duckdb
from tests.support.simulate import CONTAINER, Export
from training.inference_log import day_tables, landing, layout, parse
from use_cases.attrition import USE_CASE as ATTRITION

pytestmark = pytest.mark.azurite

FIRST = date(2026, 11, 2)


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """A running Azurite: its connection string."""
    with azurite.running(tmp_path_factory.mktemp("azurite")) as found:
        yield found


@pytest.fixture
def logs(account, monkeypatch):
    """Connection ``logs`` to Azurite, as the environment gives it."""
    connection = Connection(conn_id="logs", conn_type="wasb", extra={"connection_string": account})
    monkeypatch.setenv("AIRFLOW_CONN_LOGS", connection.as_json())
    return BlobServiceClient.from_connection_string(account)


def append(client, root):
    """Bring the container up to the local folder, as the export does: by appending to append blobs."""
    for path in sorted(root.rglob("*.json")):
        blob = client.get_blob_client(path.relative_to(root).as_posix())
        if not blob.exists():
            blob.create_append_blob()
        known = blob.get_blob_properties().size
        if rest := path.read_bytes()[known:]:
            blob.append_block(rest)


def test_messy_export_in_a_storage_account_equals_its_truth(logs, tmp_path):
    container = logs.create_container(CONTAINER)
    export = Export(tmp_path / "export", seed=6)
    export.messy_day(FIRST, requests=20)
    engine = open_duckdb(tmp_path / "spill")
    tables = tmp_path / "tables"
    for closed in (FIRST, FIRST + timedelta(days=1)):
        export.close(closed)
        append(container, export.root / CONTAINER)
        manifest = landing.land(open_source(CONTAINER), tables, closed, FIRST - timedelta(days=5), closed)
        assert manifest.lines == export.counts[closed]["read"]
        parse.stage(engine, tables, closed, ATTRITION)
        day_tables.rebuild(engine, tables, closed, ATTRITION)
    engine.close()
    assert inference(tables, export.rows) == export.rows


def test_blobs_of_later_days_are_not_listed_and_those_of_other_names_are_told_apart(logs):
    container = logs.create_container("am-listing")
    folder = "WorkspaceResourceId=/subscriptions/s/resourcegroups/g/providers/p/workspaces/w/y=2026/m=11"
    days = "d=01/h=01/m=05/PT05M.json", "d=02/h=01/m=05/PT05M_1.json", "d=02/x.json", "d=03/h=0/m=0/PT05M.json"
    for name in days:
        container.upload_blob(f"{folder}/{name}", b"{}\n")
    found = open_source("am-listing").blobs(FIRST)
    assert [(blob.name.removeprefix(folder), blob.size, blob.exported) for blob in found] == [
        ("/d=01/h=01/m=05/PT05M.json", 3, True),
        ("/d=02/h=01/m=05/PT05M_1.json", 3, True),
        ("/d=02/x.json", 3, False),
    ]


def test_missing_container_says_what_to_check(logs):
    with pytest.raises(SourceError, match=r"there is no container 'am-missing'.*export rule"):
        open_source("am-missing").blobs(FIRST)


def test_tables_in_a_storage_account_take_the_landed_lines(logs, tmp_path, monkeypatch):
    logs.create_container("tables")
    export = Export(tmp_path / "export", half_written=0)
    export.request(export._moment(FIRST), records=3)
    export.close(FIRST)
    monkeypatch.setattr(settings, "load", lambda: make_settings({"tables": "abfs://logs@tables/attrition"}))
    tables = retraining.tables_path(USE_CASE)
    from training.inference_log.azure_export import FolderSource

    source = FolderSource(export.root / CONTAINER)
    manifest = landing.land(source, tables, FIRST, FIRST, FIRST)
    assert manifest.lines == 2
    assert landing.land(source, tables, FIRST, FIRST, FIRST) == manifest
    assert landing.land(source, tables, FIRST + timedelta(days=1), FIRST, FIRST).lines == 0
    assert layout.partitions(tables, "landing") == [FIRST, FIRST + timedelta(days=1)]
