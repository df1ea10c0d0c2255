"""What the rest of the project relies on is made: arguments whose other values a plan, a policy or a schema would take.

Names, rights and arguments are others' (``test_checks.py``), and so is what comes out (``test_outputs.py``).
"""

import re
from typing import Any

import pytest

from infrastructure.checks import configuration
from infrastructure.checks.configuration import Block, plain, text
from infrastructure.checks.policies import ENVIRONMENTS
from lifecycle.events import feeds

CONFIGURATION = configuration.read()
MODULES = {folder.name: module for folder, module in CONFIGURATION.modules.items()}
CALLS = CONFIGURATION.root.of("module")


def made(module: str, kind: str) -> list[Block]:
    """The resources of a kind that a module makes."""
    found = [block for block in MODULES[module].blocks if block.kind == kind]
    assert found, f"{module} makes no {kind}"
    return found


def at(body: Any, path: str) -> Any:
    """What stands in a body at ``block.argument``, without its quotes."""
    for name in path.split("."):
        body = body[0] if isinstance(body, list) else body
        body = body[name]
    return text(body) if isinstance(body, str) else body


def calls_of(module: str) -> dict[str, Block]:
    """The calls of a module, by name."""
    return {name: call for name, call in CALLS.items() if call.body["source"] == f'"./modules/{module}"'}


CLUSTER = "azurerm_kubernetes_cluster"
RELIED_ON = [
    ("cluster", CLUSTER, "oidc_issuer_enabled", True, "pods sign in by their accounts' tokens"),
    ("cluster", CLUSTER, "workload_identity_enabled", True, "what gives pods those tokens"),
    ("cluster", CLUSTER, "azure_active_directory_role_based_access_control.azure_rbac_enabled", True,
     "rights by Azure's roles, which access.tf lists"),
    ("cluster", CLUSTER, "local_account_disabled", True, "nobody comes in beside Entra"),
    ("cluster", CLUSTER, "network_profile.network_policy", "azure", "k8s/rbac/network.yaml counts"),
    ("cluster", CLUSTER, "oms_agent.msi_auth_for_monitoring_enabled", True, "the agent takes a collection rule"),
    ("lake", "azurerm_storage_account", "is_hns_enabled", True, "abfss://, and the trees of Unity Catalog"),
    ("lake", "azurerm_storage_account", "shared_access_key_enabled", False, "rights by Entra alone"),
    ("lake", "azurerm_storage_container", "container_access_type", "private", "nothing is public"),
    ("logs", "azurerm_log_analytics_data_export_rule", "enabled", True, "nights read the export"),
    ("logs", "azurerm_application_insights", "workspace_id", "${azurerm_log_analytics_workspace.this.id}",
     "one query joins a release's spans and logs"),
    ("vault", "azurerm_key_vault", "rbac_authorization_enabled", True, "rights by roles, which access.tf lists"),
    ("vault", "azurerm_key_vault", "network_acls.default_action", "Deny", "the listed addresses alone"),
    ("queue", "azurerm_servicebus_queue", "requires_duplicate_detection", True, "Event Grid sends some events twice"),
    ("queue", "azurerm_servicebus_queue", "dead_lettering_on_message_expiration", True, "nothing is lost silently"),
    ("queue", "azurerm_servicebus_namespace", "local_auth_enabled", False, "rights by Entra alone"),
    ("database", "azurerm_postgresql_flexible_server", "public_network_access_enabled", False, "the network alone"),
    ("workspace", "azurerm_databricks_workspace", "sku", "premium", "Unity Catalog wants it"),
    ("registry", "azurerm_container_registry", "admin_enabled", False, "rights by Entra alone"),
    ("registry", "azurerm_container_registry", "anonymous_pull_enabled", False, "the same"),
    ("catalog", "databricks_volume", "volume_type", "EXTERNAL", "files lie where Airflow and Event Grid see them"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "kind", "path", "value", "why"), RELIED_ON)
def test_argument_has_the_value_that_others_rely_on(module, kind, path, value, why):
    assert [at(block.body, path) for block in made(module, kind)] == [value], why


def test_both_clusters_are_of_the_one_module_and_write_the_schema_that_nights_read():
    assert calls_of("cluster").keys() == {"staging_cluster", "production_cluster"}
    (rule,) = made("cluster", "azurerm_monitor_data_collection_rule")
    assert re.search(r"enableContainerLogV2\s*[=:]\s*true", at(rule.body, "data_sources.extension.extension_json"))
    assert '"Microsoft-ContainerLogV2"' in MODULES["cluster"].locals()["streams"]
    (association,) = made("cluster", "azurerm_monitor_data_collection_rule_association")
    assert at(association.body, "name") == "ContainerInsightsExtension"
    assert at(association.body, "target_resource_id") == f"${{{CLUSTER}.this.id}}"


def test_lake_has_a_container_for_each_kind_of_file_and_the_export_writes_there():
    containers = plain(CONFIGURATION.root.locals()["containers"])
    assert {"bronze", "logs", "tables", "outcomes"} <= containers.keys()
    assert CALLS["lake"].body["containers"] == "${local.containers}"
    assert CALLS["logs"].body["export_target_id"] == "${module.lake.id}"


def test_events_of_files_and_images_reach_the_queue_as_what_is_read_or_the_dead_letters():
    topics = {block.name: at(block.body, "topic_type") for block in made("events", "azurerm_eventgrid_system_topic")}
    assert topics == {
        "lake": "Microsoft.Storage.StorageAccounts",
        "registry": "Microsoft.ContainerRegistry.Registries",
    }
    subscriptions = made("events", "azurerm_eventgrid_system_topic_event_subscription")
    sent = {text(kind) for one in subscriptions for kind in one.body["included_event_types"]}
    # Images feed nothing by themselves: docs/events.md has the row for whoever wants them.
    assert sent == {*(feed.event_type for feed in feeds.FEEDS), "Microsoft.ContainerRegistry.ImagePushed"}
    for one in subscriptions:
        assert at(one.body, "event_delivery_schema") == "CloudEventSchemaV1_0", one
        assert one.body["service_bus_queue_endpoint_id"] == "${var.queue_id}"
        assert at(one.body, "storage_blob_dead_letter_destination.storage_account_id") == "${var.lake_id}"
        for identity in ("delivery_identity", "dead_letter_identity"):
            assert at(one.body, f"{identity}.user_assigned_identity") == "${var.identity_id}"
    assert CALLS["events"].body["queue_id"] == "${module.queue.id}"
    assert CALLS["events"].body["identity_id"] == '${module.identities.ids["events"]}'


def test_pods_and_pipelines_take_identities_by_tokens_of_their_own_issuers():
    given = CALLS["federation"].body["credentials"]
    assert "system:serviceaccount:${local.airflow_namespace}:${pair.account}" in given
    assert re.search(r"issuer\s*[=:]\s*module\.production_cluster\.issuer", given)
    assert re.search(r'identity\s*[=:]\s*module\.identities\.ids\["pipeline"\]', given)
    assert re.search(r"issuer\s*[=:]\s*pipeline\.issuer", given)
    assert re.search(r"subject\s*[=:]\s*pipeline\.subject", given)
    (credential,) = made("federation", "azurerm_federated_identity_credential")
    assert [text(audience) for audience in credential.body["audience"]] == ["api://AzureADTokenExchange"]


def test_api_management_is_there_where_its_switch_says_so():
    sizes = CONFIGURATION.root.locals()["sizes"]
    assert [plain(sizes[size])["api_management"] for size in ENVIRONMENTS] == [False, True]
    assert CALLS["api_management"].body["count"] == "${local.size.api_management ? 1 : 0}"


def test_monitoring_is_what_the_project_renders():
    assert "/../monitoring/rendered/${each.key}/monitoring.json" in CALLS["monitoring"].body["template"]
    assert CALLS["monitoring"].body["for_each"] == "${var.use_cases}"
