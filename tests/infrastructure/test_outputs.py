"""What the infrastructure hands over is what Airflow, the settings and the clusters take."""

import functools
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from airflow.sdk import BaseHook, Connection

from infrastructure.checks import configuration
from infrastructure.checks.configuration import ROOT, Module, plain, text
from lifecycle import settings
from lifecycle.approval_keys import KeyRing
from lifecycle.builders.acr import AcrBuilder
from lifecycle.hooks import registry
from lifecycle.operators import group_step
from lifecycle.signing.rings import SigningRing, verification_key
from monitoring.render import template
from training import use_case as definitions
from training.signing.keys import VaultKey, new_private_pem, open_key

PROJECT = ROOT.parent


@functools.cache
def modules() -> dict[str, Module]:
    """By their names; parsed for the first test that needs them, and not where the tests are only collected."""
    return {folder.name: module for folder, module in configuration.read().modules.items()}


def root_locals() -> dict[str, Any]:
    """The root's ``locals``."""
    return configuration.read().root.locals()


def filled(template_: str, values: dict[str, Any]) -> str:
    """What ``templatefile`` makes of the two forms that the templates use."""
    coded = re.sub(r"\$\{jsonencode\((\w+)\)\}", lambda found: json.dumps(values[found[1]]), template_)
    return re.sub(r"\$\{(\w+)\}", lambda found: str(values[found[1]]), coded)


@pytest.fixture(scope="module")
def settings_file(tmp_path_factory) -> Path:
    """The settings file as `tofu output -raw settings` prints it."""
    call = root_locals()["settings_file"]
    containers = plain(root_locals()["containers"])
    values = {
        "environment": "small",
        "airflow_url": "https://airflow.example.com",
        "mlflow_url": "https://adb-1.2.azuredatabricks.net/ml",
        "approval_keys": f"  {KeyRing.new().settings()[1:-1]},\n",
        "signing": "mlops-small-signing",
        "bundle_key": "https://mlops-small-kv.vault.azure.net/keys/bundle-signing",
        "image_key": "https://mlops-small-kv.vault.azure.net/keys/image-signing",
        "bundle_public": verification_key(new_private_pem(), "training").public,
        "image_public": verification_key(new_private_pem(), "builds").public,
        "bundle_keys": "",
        "image_keys": f"  {SigningRing.new('builds before').settings()[1:-1]},\n",
        "prices": 'currency = "EUR"\nlog_gb = 2.5\n',
        "approvers": ["lead@example.com", 'a "quoted" name'],
        "data_writers": ["team@example.com"],
        "queue": text(plain(root_locals()["names"])["event_queue"]),
        "bronze": text(containers["bronze"]),
        "outcomes": text(containers["outcomes"]),
        "code_root": text(root_locals()["code_root"]),
        "catalog": "mlops_small",
        "tables": text(containers["tables"]),
        "logs": text(containers["logs"]),
    }
    for name in values:
        assert re.search(rf"\b{name}\s*[=:]", call), f"the output does not give {name}"
    file = tmp_path_factory.mktemp("settings") / "mine.toml"
    file.write_text(filled((ROOT / "settings.toml").read_text(), values))
    return file


def test_settings_file_is_read_as_settings(settings_file):
    read = settings.read(settings_file)
    assert read.airflow_url == "https://airflow.example.com"
    assert len(read.approval_keys) == 1
    assert read.signing.required
    assert [key.signer for key in (*read.signing.bundle_keys, *read.signing.image_keys)] == [
        "training", "builds", "builds before",
    ]  # fmt: skip
    for place in (read.signing.bundle_key, read.signing.image_key):
        assert isinstance(open_key(place, read.signing.bundle_credential), VaultKey)
    assert read.training.compute == "serverless"
    assert (read.prices.currency, read.prices.log_gb, read.prices.dbu) == ("EUR", 2.5, None)
    for name in definitions.names():
        found = read.of(name)
        assert found.approvers == ("lead@example.com", 'a "quoted" name')
        assert not found.requester_may_approve
        assert found.model_name == f"mlops_small.{name}.model"


def test_settings_without_an_approval_key_are_read_too(settings_file):
    bare = re.sub(r"approval_keys = \[.*?\n\]", "approval_keys = [\n\n]", settings_file.read_text(), flags=re.DOTALL)
    assert tomllib.loads(bare)["approval_keys"] == []


def test_settings_name_the_volumes_and_containers_that_are_made(settings_file):
    catalog = modules()["catalog"].locals()
    volumes = plain(catalog["volumes"])
    said = tomllib.loads(settings_file.read_text())["every_use_case"]
    named = re.findall(r"/Volumes/mlops_small/\{use_case\}/(\w+)", json.dumps(said))
    assert sorted(named) == sorted(volumes)
    # What Airflow watches, and what the jobs read: one place each.
    assert said["bronze"] == f"abfs://logs@bronze/{{use_case}}/{text(plain(volumes['bronze'])['folder'])}"
    assert said["outcomes_folder"] == "abfs://logs@outcomes/{use_case}"
    assert (text(plain(volumes["outcomes"])["place"]), text(plain(volumes["outcomes"])["folder"])) == ("outcomes", "")
    # The tables as Airflow reaches them and as the jobs do: one place.
    assert text(plain(volumes["tables"])["place"]) == "tables"
    assert text(plain(volumes["tables"])["folder"]) == ""
    assert said["tables"] == "abfs://logs@tables/{use_case}"
    assert "WRITE_VOLUME" in json.dumps(volumes["tables"])
    assert "WRITE_VOLUME" not in json.dumps([volumes[name] for name in volumes if name != "tables"])


def test_export_writes_the_container_that_the_nightly_run_reads():
    made = text(plain(root_locals()["containers"])["logs"])
    (table,) = next(block for block in modules()["logs"].blocks if block.name == "inference").body["table_names"]
    assert made == f"am-{text(table).lower()}"
    assert made == settings.Retraining().container


def _value(written: Any) -> Any:
    """A value as HCL has it, with a word for what only a cloud could say."""
    if isinstance(written, dict):
        return {key: _value(inner) for key, inner in plain(written).items()}
    if isinstance(written, str):
        known = {
            "${var.databricks.url}": "https://adb-1.2.azuredatabricks.net",
            "${var.databricks.client_id}": "the-id",
            "${var.databricks.client_secret}": "the-secret",
            "${var.registry.host}": "mlopssmallimages.azurecr.io",
            "${var.registry.subscription_id}": "the-subscription",
            "${var.registry.group}": "mlops-small-platform",
            "${var.lake.blob_url}": "https://mlopssmalllake.blob.core.windows.net/",
            "${var.lake.name}": "mlopssmalllake",
            "${var.qa.group}": "mlops-small-qa",
            "${var.qa.region}": "westeurope",
            "${var.qa.identity_id}": "/subscriptions/s/resourceGroups/g/providers/p/userAssignedIdentities/qa",
            "${var.event_host}": "mlops-small-events.servicebus.windows.net",
            "${var.kube_configs.staging}": json.dumps({"current-context": "staging"}),
            "${var.kube_configs.production}": json.dumps({"current-context": "production"}),
        }
        return known[written] if "${" in written else text(written)
    return written


@pytest.fixture
def connections(monkeypatch) -> dict[str, Connection]:
    """Every connection that goes into the vault, where Airflow's hooks find it."""
    local = modules()["secrets"].locals()
    written = {**plain(local["connections"])}
    made = {}
    for name, value in written.items():
        document = json.dumps(_value(local["databricks"] if value == "${local.databricks}" else value))
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", document)
        made[name] = BaseHook.get_connection(name)
    return made


def test_vault_gets_every_connection_by_the_name_that_the_backend_asks_for(connections):
    secret = modules()["secrets"].of("resource")["connection"].body
    assert sorted(re.findall(r'"(\w+)"', secret["for_each"])) == sorted(connections)
    assert secret["name"] == '"airflow-connections-${replace(each.key, "_", "-")}"'


def test_connections_are_those_that_the_page_says_apply_writes(connections):
    page = (PROJECT / "docs" / "azure.md").read_text()
    section = page.partition("## Connections")[2].partition("\n## ")[0]
    rows = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in section.splitlines() if row.startswith("| `")]
    listed = [name for row in rows for name in row]
    by_hand = {"approval_key", "alerts", "messages", "airflow_api"}
    assert set(listed) - by_hand == connections.keys()
    assert by_hand <= set(listed)


def test_logs_are_opened_without_a_key_by_both_hooks(connections):
    from airflow.providers.microsoft.azure.fs.adls import get_fs
    from airflow.providers.microsoft.azure.hooks.wasb import WasbHook

    client = WasbHook(wasb_conn_id="logs").get_conn()
    files = get_fs("logs")
    assert client.account_name == files.account_name == "mlopssmalllake"
    assert "DefaultAzureCredential" in type(client.credential).__name__
    assert "DefaultAzureCredential" in type(files.credential).__name__


def test_registry_is_taken_by_the_builder(connections):
    builder = AcrBuilder(connections["registry"], credential=lambda connection: object())
    assert builder._server == "mlopssmallimages.azurecr.io"


def test_databricks_signs_in_with_the_service_principal(connections):
    from airflow.providers.databricks.hooks.databricks import DatabricksHook

    said = registry._databricks_environment(connections["mlflow"])
    assert said == {
        "DATABRICKS_HOST": "https://adb-1.2.azuredatabricks.net",
        "DATABRICKS_CLIENT_ID": "the-id",
        "DATABRICKS_CLIENT_SECRET": "the-secret",
    }
    assert DatabricksHook("databricks_default").databricks_conn.extra_dejson == {"service_principal_oauth": True}


def test_events_are_received_with_entra(connections):
    import asyncio

    from lifecycle.events import brokers

    async def connected() -> str:
        broker = await brokers.connect("lifecycle-events")
        try:
            return broker._client.fully_qualified_namespace
        finally:
            await broker.close()

    assert connections["events"].schema == ""
    assert asyncio.run(connected()) == "mlops-small-events.servicebus.windows.net"


def test_images_are_tried_in_the_group_and_with_the_identity_that_are_made(connections):
    place = msgspec.convert(connections["scoring_qa"].extra_dejson, group_step.Place)
    assert (place.resource_group, place.region) == ("mlops-small-qa", "westeurope")
    assert place.pull_identity.endswith("/userAssignedIdentities/qa")
    assert connections["scoring_qa"].conn_type == group_step.CONNECTION_TYPE


def test_password_is_written_where_it_is_given_and_stored_nowhere():
    for module in ("secrets", "database"):
        password = next(block for name, block in modules()[module].of("variable").items() if name.endswith("password"))
        assert (password.body["ephemeral"], password.body["sensitive"]) == (True, True)
        bodies = [block.body for block in modules()[module].blocks]
        stored = {name for body in bodies for name, value in body.items() if f"var.{password.name}" in str(value)}
        assert stored
        assert {name for name in stored if not re.search("_wo(_version)?$", name)} == set()
    # A later run gives none: a text with nothing in it would be an error.
    secret = modules()["secrets"].of("resource")["database"].body["value_wo"]
    assert secret.startswith("${var.database_password == null ? null : ")


def test_clusters_are_reached_without_a_secret(connections):
    assert json.loads(connections["scoring_staging"].extra_dejson["kube_config"])["current-context"] == "staging"
    written = modules()["cluster"].of("output")["kube_config"].body["value"]
    assert '"--login", "workloadidentity"' in written
    assert not re.search("token|password|client-key|secret", written.replace("get-token", ""))


def test_collected_namespaces_are_those_of_production():
    call = configuration.read().root.of("module")["production_cluster"].body["collected_namespaces"]
    assert call == '${[for name in var.use_cases : "${replace(name, "_", "-")}-production"]}'
    for name in definitions.names():
        assert definitions.load(name).namespace("production") == f"{name.replace('_', '-')}-production"


def test_deployment_gives_every_parameter_of_the_rendered_template():
    written = modules()["monitoring"].of("resource")["this"].body["parameters_content"]
    given = set(re.findall(r"(\w+)\s*=\s*\{\s*value", written)) | set(re.findall(r"(\w+)\s*[=:]\s*\{", written))
    for name in definitions.names():
        assert set(template(definitions.load(name))["parameters"]) == given


def test_those_alone_have_rights_in_a_clusters_namespaces_that_make_pods_or_wait_for_them():
    """The DAG processor runs whatever a DAG file says, and the API server faces people: neither touches a pod there."""
    written = configuration.read().root.of("output")["cluster_users"].body["value"]
    users = re.findall(r'"(\w+)"', written)
    accounts = {name: [text(one) for one in found] for name, found in plain(root_locals()["airflow_accounts"]).items()}
    assert {account for user in users for account in accounts[user]} == {"airflow-triggerer", "airflow-worker"}
    page = (PROJECT / "docs" / "azure.md").read_text()
    assert f"for who in {' '.join(users)}; do" in page
    # Each makes a RoleBinding of its name beside those that k8s/rbac.sh prints: of another name, or `create` fails.
    printed = [
        document["metadata"]["name"]
        for file in (PROJECT / "k8s" / "rbac").glob("*.yaml")
        for document in yaml.safe_load_all(file.read_text())
        if document and document["kind"] == "RoleBinding"
    ]
    assert "airflow" in printed
    assert not set(users) & set(printed)


def test_role_binding_names_the_role_that_is_there():
    role = next(
        document
        for document in yaml.safe_load_all((PROJECT / "k8s" / "rbac" / "airflow.yaml").read_text())
        if document["kind"] == "Role"
    )
    page = (PROJECT / "docs" / "azure.md").read_text()
    assert f"create rolebinding $who --role={role['metadata']['name']}" in page
