"""Names and rights of the configuration, beside those that docs/azure.md lists."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from infrastructure.checks.configuration import ROOT, Block, Configuration, plain, text

PAGE = ROOT.parent / "docs" / "azure.md"
ROLES = ROOT / "schemas" / "roles.json"
NAMES_HEADING, ROLES_HEADING = "Names", "Who may do what"
GRANTS_HEADING = "What Airflow may do in the workspace"
_ALLOWED = {"access.tf"}
"""Where role assignments may stand, in the root module."""
_MARKS = {
    "${local.prefix}": "NAME-ENVIRONMENT",
    "${local.compact}": "NAMEENVIRONMENT",
    "${var.name}_${var.environment}": "NAME_ENVIRONMENT",
}
"""What the page writes for the parts that each environment fills in."""
_GRANTS = {
    "databricks_grants": ("grant", "privileges"),
    "databricks_permissions": ("access_control", "permission_level"),
}
"""Resources that give rights in the workspace: the block of one right, and its member for what is given."""
_WHO = ("principal", "service_principal_name", "group_name", "user_name")
_PRINCIPALS = {"${databricks_service_principal.airflow.application_id}": "airflow"}
_SECURABLES = {"schema": "schema of each use case", "directory_path": "code folder", "credential": "signing credential"}
"""The page's words for what a right is on, by the argument that names it; any other is its own word."""


class Right(NamedTuple):
    """One role assignment, in the words of access.tf and of the page."""

    who: str
    role: str
    on: str

    def __str__(self) -> str:
        return f"{self.who} has {self.role} on {self.on}"


def problems(configuration: Configuration, page: Path = PAGE) -> list[str]:
    """Everything that is wrong, one sentence each."""
    content = page.read_text()
    told_rights = {str(Right(*row)) for row in rows(content, ROLES_HEADING, 3)}
    told_names = {f"{what}: {name}" for what, name in rows(content, NAMES_HEADING, 2)}
    told_grants = {
        str(Right("airflow", privilege, on))
        for on, listed in rows(content, GRANTS_HEADING, 2)
        for privilege in listed.split(", ")
    }
    return [
        *_elsewhere(configuration),
        *_words(configuration),
        *_differences("right", {str(right) for right in rights(configuration)}, told_rights),
        *_differences("name", names(configuration), told_names),
        *_differences("right", {str(right) for right in grants(configuration)}, told_grants),
    ]


def rights(configuration: Configuration) -> list[Right]:
    """Every role assignment that access.tf lists."""
    lists = (value for name, value in configuration.root.locals().items() if name.startswith("roles_"))
    return [Right(*(text(entry[part]) for part in Right._fields)) for entries in lists for entry in entries]


def grants(configuration: Configuration) -> Iterator[Right]:
    """Every right in Databricks' workspace and its catalog, of each kind of volume once."""
    for module in configuration.every():
        for block in module.blocks:
            if block.kind in _GRANTS:
                yield from _of_block(block, module.locals().get("volumes", {}))


def _of_block(block: Block, volumes: dict[str, Any]) -> Iterator[Right]:
    entry, what = _GRANTS[block.kind]
    beside = {entry, "for_each", "count", "depends_on", "lifecycle", "provider", "dynamic"}
    securable = ", ".join(sorted(plain(block.body).keys() - beside))
    if "dynamic" in block.body:
        yield Right("somebody", "what a dynamic block says", securable)
    written = block.body.get(entry)
    for given in written if isinstance(written, list) else ():  # what is written otherwise, arguments.py names
        privileges = given.get(what, [])
        who = next((given[name] for name in _WHO if name in given), "nobody")
        principal = _PRINCIPALS.get(who, who)
        if securable == "volume" and privileges == "${each.value.privileges}":
            on = {f"volume {text(name)}": volume["privileges"] for name, volume in plain(volumes).items()}
        else:
            on = {_SECURABLES.get(securable, securable): privileges}
        for place, listed in on.items():
            for privilege in listed if isinstance(listed, list) else [listed]:
                yield Right(principal, text(privilege), place)


def names(configuration: Configuration) -> set[str]:
    """``vault: NAME-ENVIRONMENT-kv`` for each name that environments.tf gives."""
    found = set()
    for what, name in configuration.root.locals()["names"].items():
        words = text(name)
        for written, mark in _MARKS.items():
            words = words.replace(written, mark)
        found.add(f"{text(what).replace('_', ' ')}: {words}")
    return found


def _elsewhere(configuration: Configuration) -> Iterator[str]:
    """Role assignments that the lists do not hold."""
    for block in configuration.resources():
        if block.kind != "azurerm_role_assignment":
            continue
        if block.file.parent != configuration.root.folder or block.file.name not in _ALLOWED:
            yield f"{block}: role assignments stand in the lists of access.tf, where the page is compared with them"
        elif "local.roles_" not in block.body.get("for_each", ""):
            yield f"{block}: it takes no list of access.tf: write the right into one"


def _words(configuration: Configuration) -> Iterator[str]:
    """Roles that Azure has, and words for people and places that access.tf explains."""
    local = configuration.root.locals()
    known = json.loads(ROLES.read_text())["roles"]
    for right in rights(configuration):
        if right.role not in known:
            yield f"{right}: schemas/roles.json has no such role; look the id up before you add it"
    for stage in (name.removeprefix("roles_") for name in local if name.startswith("roles_")):
        people, places = ({text(word) for word in local[f"{kind}_{stage}"]} for kind in ("principals", "places"))
        for entry in local[f"roles_{stage}"]:
            who, on = text(entry["who"]), text(entry["on"])
            if who not in people or on not in places:
                yield f"roles_{stage}: {who} or {on} is not in principals_{stage} and places_{stage}"


def rows(content: str, heading: str, columns: int) -> Iterator[tuple[str, ...]]:
    """The rows of the one table below a heading, without the marks of code; the first ``columns`` of each."""
    section = re.search(rf"^## (?:\d+\. )?{heading}$\n(.*?)(?=^## |\Z)", content, re.MULTILINE | re.DOTALL)
    lines = [line for line in (section[1] if section else "").splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield tuple(cell.strip().replace("`", "") for cell in line.strip("|").split("|"))[:columns]


def _differences(what: str, made: set[str], told: set[str]) -> Iterator[str]:
    for entry in sorted(made - told):
        yield f"the configuration has a {what} that {PAGE.name} does not list: {entry}"
    for entry in sorted(told - made):
        yield f"{PAGE.name} lists a {what} that the configuration does not have: {entry}"
