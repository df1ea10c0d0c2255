"""The infrastructure holds together, and the checks find what is planted in a copy."""

import functools
import random
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infrastructure.checks import arguments, configuration, documented
from infrastructure.checks.__main__ import main, problems
from infrastructure.checks.configuration import ROOT, plain
from infrastructure.checks.policies import ENVIRONMENTS, EXAMPLE, Accepted, Finding, accepted, unaccepted

PAGE = documented.PAGE
TIMES = "\N{MULTIPLICATION SIGN}"
TARGETS = ("staging", "production")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the configuration, to plant things in."""
    return Path(shutil.copytree(ROOT, tmp_path / "infrastructure"))


def plant(copy: Path, file: str, old: str, new: str) -> list[str]:
    """What the checks say once a text is replaced."""
    path = copy / file
    assert old in path.read_text(), "the test has to plant something"
    path.write_text(path.read_text().replace(old, new, 1))
    return problems(copy, PAGE, None)


def test_infrastructure_holds(capsys):
    main([])
    assert "hold" in capsys.readouterr().out


def test_copy_without_a_fault_holds(copy):
    assert problems(copy, PAGE, None) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("modules/cluster/main.tf", "oidc_issuer_enabled ", "oidc_issuer_enable ", "no argument oidc_issuer_enable;"),
        ("modules/cluster/main.tf", "vm_size ", "vm_siz ", "default_node_pool: there is no argument vm_siz;"),
        ("modules/network/main.tf", '"delegation" {', '"delegatio" {', "there is no block delegatio;"),
        ("modules/network/main.tf", "    content {\n      name ", "    content {\n      nam ", "no argument nam;"),
        ("modules/catalog/main.tf", "volume_type ", "volume_typ ", "no argument volume_typ;"),
        ("modules/catalog/main.tf", 'volume_type      = "EXTERNAL"\n', "", "volume_type is missing"),
        ("modules/catalog/main.tf", "  grant {", "  grant = {", "grant is a block"),
        ("modules/catalog/main.tf", '["USE_CATALOG"]', '"USE_CATALOG"', "privileges has to be a list"),
        ("modules/lake/main.tf", '"azurerm_storage_account"', '"azurerm_storage_acount"', "azurerm_storage_acount"),
        ("modules/lake/outputs.tf", ".primary_blob_endpoint", ".primary_blob_endpont", "no attribute"),
        ("modules/cluster/outputs.tf", "azurerm_kubernetes_cluster.this.id", "var.nobody", "no such variable"),
        ("main.tf", "module.queue.host", "module.queue.hosts", "no output hosts"),
        ("main.tf", "  sku      = local.size.registry_sku\n", "", "sku is missing"),
        ("main.tf", "  sku      = local.size.registry_sku\n", "  skew = 1\n", "has no variable skew"),
        ("main.tf", "local.size.node_size", "local.sizing.node_size", "no such local value"),
        ("main.tf", '"./modules/queue"', '"./modules/queues"', "there is no folder"),
        ("variables.tf", 'variable "name"', 'variable "unused" {}\nvariable "name"', "nothing uses it"),
        ("versions.tf", "4.73.0", "4.74.0", "run `make azure-schemas`"),
        ("main.tf", 'module "queue" {', 'module queue" {', "is not HCL"),
        ("modules/api_management/policy.xml", "<set-header name", "<set-heade name", "policy.xml is not XML"),
        ("modules/api_management/policy.xml", "counter-key=", "counter-kay=", "no attribute counter-kay"),
        ("modules/api_management/policy.xml", "{{scoring-key}}", "{{scoring-keys}}", "no resource makes it"),
        ("modules/api_management/policy.xml", "${audience}", "${audiences}", "audiences, which no value is given for"),
        ("modules/api_management/policy.xml", "${audience}", "a", "no place for the value audience"),
        ("modules/api_management/main.tf", "Developer_1", "Consumption_0", "has no policy rate-limit-by-key"),
    ],
)  # fmt: skip
def test_planted_fault_is_named(copy, file, old, new, says):
    assert any(says in problem for problem in plant(copy, file, old, new))


@functools.cache
def resources():
    return [block for block in configuration.read().resources() if plain(block.body)]


@settings(max_examples=60)
@given(st.data())
def test_any_misspelt_argument_is_found(data):
    block = data.draw(st.sampled_from(resources()))
    given_ = [
        name for name in plain(block.body) if name not in ("for_each", "count", "depends_on", "lifecycle", "dynamic")
    ]
    if not given_:
        return
    name = data.draw(st.sampled_from(given_))
    misspelt = name[:-1] + random.Random(name).choice("qzx_")
    body = {misspelt if key == name else key: value for key, value in block.body.items()}
    found = arguments.resource_problems(block._replace(body=body))
    assert any(misspelt in problem for problem in found)


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        (  # one too many
            "access.tf",
            '{ who = "pipeline", role = "AcrPush", on = "airflow registry" },',
            '{ who = "pipeline", role = "AcrPush", on = "airflow registry" },\n'
            '    { who = "pipeline", role = "AcrPush", on = "image registry" },',
            "does not list: pipeline has AcrPush on image registry",
        ),
        (  # a wider role
            "access.tf",
            '{ who = "workers", role = "Storage Blob Data Reader"',
            '{ who = "workers", role = "Storage Blob Data Contributor"',
            "does not list: workers has Storage Blob Data Contributor on container am-containerlogv2",
        ),
        (  # a role that nobody may have here
            "access.tf", '{ who = "airflow", role = "Key Vault Secrets User"', '{ who = "airflow", role = "Owner"',
            "has no such role",
        ),
        (  # one that is gone
            "access.tf", '    { who = "production nodes", role = "AcrPull", on = "airflow registry" },\n', "",
            "does not have: production nodes has AcrPull on airflow registry",
        ),
        (  # elsewhere
            "modules/lake/main.tf",
            'resource "azurerm_storage_container"',
            'resource "azurerm_role_assignment" "wide" {\n  principal_id = var.name\n  scope = var.name\n'
            '  role_definition_name = "AcrPull"\n}\nresource "azurerm_storage_container"',
            "role assignments stand in the lists of access.tf",
        ),
        (  # beside the lists
            "access.tf",
            'resource "azurerm_role_assignment" "after"',
            'resource "azurerm_role_assignment" "wide" {\n  principal_id = var.key_keeper\n  scope = module.vault.id\n'
            '  role_definition_name = "AcrPull"\n}\nresource "azurerm_role_assignment" "after"',
            "it takes no list of access.tf",
        ),
        ("access.tf", 'on = "qa group" }', 'on = "all groups" }', "not in principals_before and places_before"),
        (
            "modules/catalog/main.tf", '["USE_CATALOG"]', '["USE_CATALOG", "ALL_PRIVILEGES"]',
            "does not list: airflow has ALL_PRIVILEGES on catalog",
        ),
        (
            "modules/catalog/main.tf", 'folder = "raw", privileges = ["READ_VOLUME"]',
            'folder = "raw", privileges = ["READ_VOLUME", "WRITE_VOLUME"]',
            "does not list: airflow has WRITE_VOLUME on volume raw",
        ),
        (
            "modules/catalog/main.tf", "  grant {\n", '  grant {\n    principal = "account users"\n'
            '    privileges = ["ACCESS"]\n  }\n\n  grant {\n',
            'does not list: "account users" has ACCESS on signing credential',
        ),
        (
            "modules/catalog/main.tf", '["USE_SCHEMA", ', "[",
            "does not have: airflow has USE_SCHEMA on schema of each use case",
        ),
        (
            "modules/catalog/main.tf", "  access_control {\n", '  access_control {\n    group_name = "users"\n'
            '    permission_level = "CAN_EDIT"\n  }\n\n  access_control {\n',
            'does not list: "users" has CAN_EDIT on code folder',
        ),
        (
            "modules/catalog/main.tf", "  grant {\n", '  dynamic "grant" {\n    for_each = var.use_cases\n'
            '    content {\n      principal = grant.value\n      privileges = ["ACCESS"]\n    }\n  }\n\n  grant {\n',
            "does not list: somebody has what a dynamic block says on credential",
        ),
        ("environments.tf", "{local.prefix}-kv", "{local.prefix}-v", "does not list: vault: NAME-ENVIRONMENT-v"),
    ],
)  # fmt: skip
def test_planted_right_or_name_is_named(copy, file, old, new, says):
    assert any(says in problem for problem in plant(copy, file, old, new))


def test_page_without_a_right_is_named(tmp_path):
    page = tmp_path / "azure.md"
    page.write_text(PAGE.read_text().replace("| events | Azure Service Bus Data Sender |", "| events | AcrPull |"))
    said = problems(ROOT, page, None)
    assert [problem for problem in said if "events has AcrPull on event queue" in problem]
    assert [problem for problem in said if "events has Azure Service Bus Data Sender on event queue" in problem]


IDENTITIES = ("airflow", "triggerer", "workers", "pipeline", "events", "container instances")
MEANT = {
    **{who: f'module.identities.principal_ids["{who.replace(" ", "_")}"]' for who in IDENTITIES},
    **{f"{target} cluster": f'module.identities.principal_ids["{target}_cluster"]' for target in TARGETS},
    **{f"{target} nodes": f"module.{target}_cluster.node_principal_id" for target in TARGETS},
    "who applies": "data.azurerm_client_config.current.object_id",
    "key keeper": "var.key_keeper",
    "cluster admins": "var.cluster_admins",
    "access connector": "module.workspace.connector_principal_id",
    "signing connector": "module.workspace.signing_connector_principal_id",
    "api management": "local.size.api_management ? module.api_management[0].principal_id : null",
}
"""Who is behind each word of access.tf."""
PLACES = {
    "vault": "module.vault.id",
    "workers' vault": "module.workers_vault.id",
    "image registry": "module.image_registry.id",
    "airflow registry": "module.airflow_registry.id",
    "event queue": "module.queue.id",
    "qa group": 'module.groups.ids["qa"]',
    "container instances' identity": 'module.identities.ids["container_instances"]',
    "lake": "module.lake.id",
    **{f"{what} key": f'module.keys.ids["{what}"]' for what in ("bundle", "image")},
    **{f"{target} subnet": f'module.network.subnets["{target}"]' for target in TARGETS},
    **{f"{target} cluster": f"module.{target}_cluster.id" for target in TARGETS},
    "airflow namespace": '"${module.production_cluster.id}/namespaces/${local.airflow_namespace}"',
    "scoring key": 'var.api == null ? null : "${module.vault.id}/secrets/${var.api.key_secret}"',
}
"""What is behind each word for a place, but for the lake's containers."""
OUTPUTS = {
    ("queue", "id"): "azurerm_servicebus_queue.this.id",
    ("vault", "id"): "azurerm_key_vault.this.id",
    ("registry", "id"): "azurerm_container_registry.this.id",
    ("cluster", "id"): "azurerm_kubernetes_cluster.this.id",
    ("lake", "id"): "azurerm_storage_account.this.id",
    ("lake", "containers"): "{for key, container in azurerm_storage_container.this : key => container.id}",
    ("keys", "ids"): "{for what, key in azurerm_key_vault_key.this : what => key.resource_versionless_id}",
    ("network", "subnets"): "{for key, subnet in azurerm_subnet.this : key => subnet.id}",
    ("groups", "ids"): "{for key, group in azurerm_resource_group.this : key => group.id}",
    ("identities", "ids"): "{for key, identity in azurerm_user_assigned_identity.this : key => identity.id}",
}
"""What modules give for those places: the thing itself, and not what holds it."""


def meanings(kind: str) -> list[tuple[str, str]]:
    """The words for principals or places in access.tf, and the expressions behind them, of every stage."""
    local = configuration.read().root.locals()
    return [
        (configuration.text(word), meant.removeprefix("${").removesuffix("}") if meant.startswith("${") else meant)
        for name in local
        if name.startswith(f"{kind}_")
        for word, meant in plain(local[name]).items()
    ]


def test_word_for_somebody_is_that_one():
    found = meanings("principals")
    assert {word for word, _ in found} == MEANT.keys()
    assert [(word, meant) for word, meant in found if meant != MEANT[word]] == []


def test_word_for_a_place_is_no_wider_than_that_place():
    keys = {
        configuration.text(name): key for key, name in plain(configuration.read().root.locals()["containers"]).items()
    }
    containers = {f"container {name}": f'module.lake.containers["{key}"]' for name, key in keys.items()}
    found = meanings("places")
    assert {word for word, _ in found} <= {*PLACES, *containers}
    assert [(word, meant) for word, meant in found if meant != (PLACES | containers)[word]] == []
    modules = {folder.name: module for folder, module in configuration.read().modules.items()}
    for (module, output), value in OUTPUTS.items():
        assert modules[module].of("output")[output].body["value"] == f"${{{value}}}", (module, output)
    # The lake as a whole: the one role there opens nothing in it.
    assert {right.role for right in documented.rights(configuration.read()) if right.on == "lake"} == {
        "Storage Blob Delegator"
    }


def named(environment: str) -> dict[str, str]:
    """The names that an environment gives, by what is named."""
    values = {"var.name": "mlops", "var.environment": environment}
    local = configuration.read().root.locals()
    for part in ("prefix", "compact"):
        values[f"local.{part}"] = filled(configuration.text(local[part]), values)
    return {what: filled(configuration.text(name), values) for what, name in plain(local["names"]).items()}


def filled(text: str, values: dict[str, str]) -> str:
    """A text with its ``${...}`` filled in; raises ``KeyError`` for what is not known."""
    return re.sub(r"\$\{([\w.]+)\}", lambda found: values[found[1]], text)


def test_environments_share_no_name_but_of_what_lies_in_something_of_their_own():
    small, full = (named(environment) for environment in ENVIRONMENTS)
    assert {what for what in small if small[what] == full[what]} == {"bundle_key", "image_key", "event_queue"}


METASTORE = {
    "databricks_catalog": "ISOLATED",
    "databricks_credential": "ISOLATION_MODE_ISOLATED",
    "databricks_external_location": "ISOLATION_MODE_ISOLATED",
    "databricks_storage_credential": "ISOLATION_MODE_ISOLATED",
}
"""What lies in the region's one metastore, and the word by which its own workspace alone reaches it."""


def test_what_lies_in_the_shared_metastore_is_named_and_bound_by_its_environment():
    catalog = configuration.read().modules[ROOT / "modules" / "catalog"]
    made = [block for block in catalog.blocks if block.kind in METASTORE]
    assert {block.kind for block in made} == METASTORE.keys()
    isolated = configuration.text(catalog.locals()["isolated"])
    for block in made:
        said = configuration.text(block.body["isolation_mode"])
        assert said.replace("${local.isolated}", isolated) == METASTORE[block.kind], block
        assert "var.name" in block.body["name"] or "var.signing.credential" in block.body["name"], block
    given = configuration.read().root.of("module")["catalog"].body
    assert given["name"] == "${local.names.catalog}"
    assert "local.names.signing_credential" in str(given["signing"])


def test_nothing_in_the_small_environment_refuses_to_be_taken_down_for_what_is_in_it():
    """A smoke run leaves models, code and files behind, which nobody has told the configuration of."""
    switches = ("force_destroy", "delete_recursive")
    having = [
        (block, name)
        for block in configuration.read().resources()
        for name in switches
        if block.section == "resource"
        and name in arguments.schema(block.kind.partition("_")[0])["resource"][block.kind]["arguments"]
    ]
    assert len(having) >= 6
    for block, name in having:
        assert block.body.get(name) == "${!var.guarded}", block
    (features,) = configuration.read().root.of("provider")["azurerm"].body["features"]
    said = {name: plain(body[0]) for name, body in plain(features).items()}
    assert said == {
        "resource_group": {"prevent_deletion_if_contains_resources": "${local.size.guarded}"},
        "databricks_workspace": {"force_delete": "${!local.size.guarded}"},
        "log_analytics_workspace": {"permanently_delete_on_destroy": "${!local.size.guarded}"},
        "key_vault": {"purge_soft_delete_on_destroy": "${!local.size.guarded}"},
    }
    assert configuration.read().root.of("module")["catalog"].body["guarded"] == "${local.size.guarded}"
    sizes = configuration.read().root.locals()["sizes"]
    assert [plain(sizes[size])["guarded"] for size in ENVIRONMENTS] == [False, True]


def test_staging_reaches_neither_production_nor_the_database():
    network = configuration.read().modules[ROOT / "modules" / "network"]
    rule = network.of("resource")["apart"].body
    assert set(re.findall(r'"(\w+)"', rule["for_each"])) == network.locals()["subnets"].keys() - {"staging"}
    given = {
        name: configuration.text(rule[name]) for name in ("access", "direction", "protocol", "destination_port_range")
    }
    assert given == {"access": "Deny", "direction": "Inbound", "protocol": "*", "destination_port_range": "*"}
    assert rule["source_address_prefix"] == "${local.subnets.staging.range}"


def test_api_management_reads_one_secret_as_itself():
    """Behind a vault's firewall it comes with its own identity alone; and the right is there before it reads."""
    module = configuration.read().modules[ROOT / "modules" / "api_management"].of("resource")
    (identity,) = module["this"].body["identity"]
    assert configuration.text(identity["type"]) == "SystemAssigned"
    (value,) = module["key"].body["value_from_key_vault"]
    assert plain(value).keys() == {"secret_id"}
    assert module["key"].body["depends_on"] == ["${var.may_read}"]
    given = configuration.read().root.of("module")["api_management"].body
    assert "azurerm_role_assignment.api_management" in given["may_read"]
    place = configuration.read().root.locals()["places_api_management"]['"scoring key"']
    assert place.endswith('"${module.vault.id}/secrets/${var.api.key_secret}"}')


def test_command_fails_with_what_is_wrong(copy):
    plant(copy, "modules/lake/main.tf", "min_tls_version ", "min_tls_versio ")
    with pytest.raises(SystemExit, match="min_tls_versio"):
        main(["--folder", str(copy)])


def test_both_environments_have_the_same_lines():
    sizes = configuration.read().root.locals()["sizes"]
    assert sorted(sizes) == sorted(ENVIRONMENTS)
    assert plain(sizes["small"]).keys() == plain(sizes["full"]).keys()


def test_page_counts_the_machines_of_both_environments():
    text = PAGE.read_text()
    for size in ("small", "full"):
        values = plain(configuration.read().root.locals()["sizes"][size])
        nodes = configuration.text(values["node_size"])
        assert f"2 clusters {TIMES} {values['node_count']} `{nodes}`" in text
        assert f"`{configuration.text(values['database_sku'])}`, {values['database_storage_mb']} MB" in text
        assert f"2 {TIMES} `{configuration.text(values['registry_sku'])}`" in text
        assert f"2 {TIMES} tier `{configuration.text(values['cluster_tier'])}`" in text
        assert f"at most {values['log_gigabytes_a_day']} GB a day" in text
        assert f"`{configuration.text(values['replication'])}`" in text


def test_example_gives_every_variable_that_has_no_default():
    wanted = configuration.read().root.of("variable")
    given_ = set(plain(configuration.hcl2.loads((ROOT / EXAMPLE).read_text())))
    assert given_ <= wanted.keys()
    assert {name for name, block in wanted.items() if "default" not in block.body} <= given_


def test_every_variable_and_output_says_what_it_is():
    for module in configuration.read().every():
        for block in (*module.of("variable").values(), *module.of("output").values()):
            assert block.body.get("description"), block


def test_accepted_findings_have_reasons():
    assert all(len(entry.reason) > 20 for entry in accepted())
    assert len({entry.finding for entry in accepted()}) == len(accepted())


def test_finding_has_to_be_accepted_and_an_acceptance_has_to_be_needed():
    finding = Finding("trivy", "AZU-1", "module.lake", "too open")
    needed = Accepted("trivy AZU-1 on module.lake", "a reason")
    assert unaccepted({finding}, [needed]) == []
    assert unaccepted({finding}, []) == ["trivy AZU-1 on module.lake: too open"]
    assert unaccepted({finding}, [Accepted("checkov AZU-1 on module.lake", "a reason")]) != []
    (rest,) = unaccepted({finding}, [needed, Accepted("trivy AZU-1 on module.vault", "a reason")])
    assert "accepts trivy AZU-1 on module.vault, which does not occur" in rest
