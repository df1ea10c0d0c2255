"""What a plan would refuse: arguments that no provider knows, those that are missing, names that nothing declares.

The providers' schemas are the extracts in ``infrastructure/schemas``. Values are not judged, only their kind.
"""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infrastructure.checks.configuration import Block, Configuration, Module, plain, references, text

SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"
PROVIDERS = ("azurerm", "databricks")
_EVERYWHERE = {"count", "for_each", "depends_on", "lifecycle", "provider"}
_OF_MODULES = {"source", "count", "for_each", "depends_on", "providers"}
_KINDS: dict[str, type | tuple[type, ...]] = {
    "string": (str, int, float), "boolean": bool, "number": (int, float), "list": list, "map": dict,
}  # fmt: skip
"""What a literal of each type is; numbers and truth values become texts by themselves."""


@functools.cache
def schema(provider: str) -> dict[str, Any]:
    """The extract of one provider's schema."""
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{provider}.json").read_text())
    return loaded


def problems(configuration: Configuration) -> list[str]:
    """Everything that is wrong, one sentence each."""
    found = [*_versions(configuration.root)]
    for block in configuration.resources():
        found += resource_problems(block)
    asked = configuration.root.references()
    for module in configuration.every():
        found += [*_calls(configuration, module), *_undeclared(configuration, module)]
        found += _unused(configuration, module, asked)
    return found


def _of(kind: str, section: str) -> dict[str, Any] | None:
    provider = kind.partition("_")[0]
    found = schema(provider)[section].get(kind) if provider in PROVIDERS else None
    return dict(found) if found else None


def _versions(root: Module) -> Iterator[str]:
    """The schemas are those of the providers that are asked for."""
    terraform = next(block for block in root.blocks if block.section == "terraform")
    (wanted,) = terraform.body["required_providers"]
    for provider in PROVIDERS:
        pinned = text(plain(wanted[provider])["version"])
        if pinned != schema(provider)["version"]:
            yield (
                f"{terraform.file.name} wants {provider} {pinned}, and schemas/{provider}.json is of "
                f"{schema(provider)['version']}: run `make azure-schemas` with the bindings of that version"
            )


def resource_problems(block: Block) -> Iterator[str]:
    found = _of(block.kind, block.section)
    if found is None:
        yield f"{block}: no provider here has a {block.section} {block.kind}; run `make azure-schemas` if it is new"
        return
    yield from _body(str(block), block.body, found["arguments"], _EVERYWHERE)


def _body(where: str, body: dict[str, Any], arguments: dict[str, Any], also: set[str]) -> Iterator[str]:
    given = plain(body)
    dynamic = [(text(name), inner) for entry in given.pop("dynamic", ()) for name, inner in plain(entry).items()]
    for name, value in given.items():
        if name in also:
            continue
        if name not in arguments:
            yield f"{where}: there is no argument {name}; there are {', '.join(sorted(arguments))}"
        else:
            yield from _argument(f"{where}, {name}", value, arguments[name])
    for name, inner in dynamic:
        if "block" not in arguments.get(name, ()):
            yield f"{where}: there is no block {name}; there are {', '.join(sorted(arguments))}"
            continue
        for content in inner["content"]:
            yield from _body(f"{where}, {name}", content, arguments[name]["block"], set())
    present = {*given, *(name for name, _ in dynamic)}
    for name, argument in arguments.items():
        if argument.get("required") and name not in present:
            yield f"{where}: {name} is missing"


def _argument(where: str, value: Any, argument: dict[str, Any]) -> Iterator[str]:
    is_block = isinstance(value, list) and any(isinstance(entry, dict) and "__is_block__" in entry for entry in value)
    if inner := argument.get("block"):
        if not is_block:
            yield f"{where} is a block: write it without ="
            return
        for entry in value:
            yield from _body(where, entry, inner, set())
    elif is_block:
        yield f"{where} is not a block: write it with ="
    elif not _is_expression(value) and not isinstance(value, _KINDS.get(argument["type"], object)):
        yield f"{where} has to be a {argument['type']}, and is {value!r}"


def _is_expression(value: Any) -> bool:
    """Whether a value is still to be worked out: the parser gives texts their quotes, and expressions none."""
    return value is None or (isinstance(value, str) and not value.startswith('"'))


def _calls(configuration: Configuration, module: Module) -> Iterator[str]:
    """Calls of modules give every variable that has no default, and no other."""
    for block in module.of("module").values():
        folder = (module.folder / text(block.body["source"])).resolve()
        called = configuration.modules.get(folder)
        if called is None:
            yield f"{block}: there is no folder {block.body['source']}"
            continue
        variables = called.of("variable")
        given = plain(block.body).keys() - _OF_MODULES
        for name in sorted(given - variables.keys()):
            yield f"{block}: {folder.name} has no variable {name}; it has {', '.join(sorted(variables))}"
        for name, variable in variables.items():
            if "default" not in variable.body and name not in given:
                yield f"{block}: {name} is missing"


def _undeclared(configuration: Configuration, module: Module) -> Iterator[str]:
    """Names in expressions are declared, and attributes are those of the schema."""
    for block in module.blocks:
        for name in sorted(set(references(block.body))):
            if problem := _reference(configuration, module, name):
                yield f"{block}: {name}: {problem}"


def _reference(configuration: Configuration, module: Module, name: str) -> str:
    first, *rest = name.split(".")
    if first == "var":
        return "" if rest[0] in module.of("variable") else "no such variable"
    if first == "local":
        return "" if rest[0] in module.locals() else "no such local value"
    if first == "module":
        return _output(configuration, module, rest)
    if first == "data" or first.partition("_")[0] in PROVIDERS:
        return _attribute(module, ["resource", first, *rest] if first != "data" else [first, *rest])
    return ""


def _output(configuration: Configuration, module: Module, path: list[str]) -> str:
    call = module.of("module").get(path[0])
    if call is None:
        return "no such module is called"
    called = configuration.modules.get((module.folder / text(call.body["source"])).resolve())
    if called is None or len(path) == 1 or path[1] in called.of("output"):
        return ""
    return f"the module has no output {path[1]}"


def _attribute(module: Module, path: list[str]) -> str:
    section, kind, name, *attributes = path
    if not any((block.section, block.kind, block.name) == (section, kind, name) for block in module.blocks):
        return "nothing declares it"
    found = _of(kind, section)
    if not found or not attributes or attributes[0] in found["attributes"]:
        return ""
    return f"{kind} has no attribute {attributes[0]}; it has {', '.join(found['attributes'])}"


def _unused(configuration: Configuration, module: Module, asked_by_root: set[str]) -> Iterator[str]:
    """What nothing uses is a mistake, or a rest of something; ``asked_by_root`` is all that the root names."""
    used = {tuple(name.split(".")[:2]) for name in module.references()}
    for name, block in module.of("variable").items():
        if ("var", name) not in used:
            yield f"{block}: nothing uses it"
    for name in module.locals():
        if ("local", name) not in used:
            yield f"{module.folder.name}: nothing uses the local value {name}"
    if module is configuration.root:
        return
    calls = [
        name
        for name, call in configuration.root.of("module").items()
        if (configuration.root.folder / text(call.body["source"])).resolve() == module.folder
    ]
    asked = {tuple(name.split(".")[:3]) for name in asked_by_root}
    for name, block in module.of("output").items():
        if not any(("module", call, name) in asked for call in calls):
            yield f"{block}: nothing uses it"
