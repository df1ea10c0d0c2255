"""Write the extracts of the providers' schemas that the other checks read.

``python -m infrastructure.checks.extract FILE ...`` takes the file ``.jsii`` of the npm packages
``@cdktn/provider-azurerm`` and ``@cdktn/provider-databricks``: bindings that were generated from a provider's own
schema, and that can be had where the providers themselves cannot. It keeps the resources and data sources that the
configuration uses, and writes one file for each provider into ``infrastructure/schemas``. `make azure-schemas` fetches
the packages and runs it.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from infrastructure.checks.configuration import Configuration, read

SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"
# What the bindings add to each resource, and what Terraform itself understands in each.
_ADDED = {"connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioners", "timeouts"}
_NOT_ATTRIBUTES = {"tf_resource_type", *_ADDED}


def snake(name: str) -> str:
    """The argument's own name: ``minTlsVersion`` is ``min_tls_version``."""
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name.removesuffix("Attribute"))


class Bindings:
    """The types of one provider's bindings."""

    def __init__(self, file: Path) -> None:
        assembly = json.loads(file.read_text())
        self._types: dict[str, Any] = assembly["types"]
        self.package = f"{assembly['name']} {assembly['version']}"
        self._by_class = {name.rpartition(".")[2].lower(): name for name in self._types}

    def of(self, kind: str, *, data: bool) -> dict[str, Any] | None:
        """Arguments and attributes of a resource or a data source; ``None`` where this provider has no such one."""
        provider = self.package.partition("provider-")[2].partition(" ")[0]
        plain = kind.removeprefix(f"{provider}_").replace("_", "")
        wanted = f"data{provider}{plain}" if data else plain
        name = self._by_class.get(wanted)
        if not kind.startswith(f"{provider}_") or name is None:
            return None
        return {
            "arguments": self._arguments(self._types[f"{name}Config"]),
            "attributes": sorted(self._attributes(self._types[name])),
        }

    def version(self) -> str:
        """The provider's version, which the bindings tell in their documentation."""
        for found in self._types.values():
            if told := re.search(r"registry\.terraform\.io/providers/[\w-]+/[\w-]+/([\d.]+)/", json.dumps(found)):
                return told[1]
        raise SystemExit(f"{self.package} does not say which version of the provider it was made from")

    def _attributes(self, found: dict[str, Any]) -> set[str]:
        static = (entry["name"] for entry in found["properties"] if not entry["name"].endswith("Input"))
        return {snake(name) for name in static} - _NOT_ATTRIBUTES

    def _arguments(self, found: dict[str, Any]) -> dict[str, Any]:
        return {
            snake(entry["name"]): self._argument(entry)
            for entry in sorted(found.get("properties", ()), key=lambda entry: str(entry["name"]))
            if snake(entry["name"]) not in _ADDED
        }

    def _argument(self, entry: dict[str, Any]) -> dict[str, Any]:
        required = {} if entry.get("optional") else {"required": True}
        nested = self._nested(entry["type"])
        if nested:
            return {**required, "block": self._arguments(self._types[nested])}
        return {**required, "type": _plain(entry["type"])}

    def _nested(self, kind: dict[str, Any]) -> str | None:
        """The type of a nested block; the bindings name it alone, in a list, or in a choice of list and reference."""
        candidates = [kind, *kind.get("union", {}).get("types", ())]
        for candidate in candidates:
            name = candidate.get("fqn") or candidate.get("collection", {}).get("elementtype", {}).get("fqn")
            if name and self._types.get(name, {}).get("kind") == "interface":
                return str(name)
        return None


def _plain(kind: dict[str, Any]) -> str:
    """``string``, ``number``, ``boolean``, ``list``, ``map`` or ``any``."""
    for candidate in [kind, *kind.get("union", {}).get("types", ())]:
        if primitive := candidate.get("primitive"):
            return str(primitive)
        if collection := candidate.get("collection"):
            return "list" if collection["kind"] == "array" else "map"
    return "any"


def extract(bindings: Bindings, configuration: Configuration) -> dict[str, Any]:
    """The provider's part of what the configuration uses."""
    found: dict[str, dict[str, Any]] = {"resource": {}, "data": {}}
    for block in configuration.resources():
        if schema := bindings.of(block.kind, data=block.section == "data"):
            found[block.section][block.kind] = schema
    return {
        "about": f"Generated from {bindings.package} (MPL-2.0), which was generated from the provider's schema.",
        "version": bindings.version(),
        **{section: dict(sorted(kinds.items())) for section, kinds in found.items()},
    }


def main(files: list[str]) -> None:
    """Write an extract for each file of bindings."""
    configuration = read()
    for file in files:
        bindings = Bindings(Path(file))
        provider = bindings.package.partition("provider-")[2].partition(" ")[0]
        target = SCHEMAS / f"{provider}.json"
        target.write_text(json.dumps(extract(bindings, configuration), indent=1) + "\n")
        sys.stdout.write(f"{target}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
