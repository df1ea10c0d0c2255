"""The configuration as it is written: the blocks of each module's files, and what their expressions refer to."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hcl2

ROOT = Path(__file__).resolve().parents[1]
_LABELS = {"resource": 2, "data": 2, "module": 1, "variable": 1, "output": 1, "provider": 1}
"""How many labels stand between the word that begins a block and its body."""
_REFERENCE = re.compile(r"(?<![\w.\-\]])[a-z][\w-]*(?:\.[a-z_][\w-]*)+")
_INDEX = re.compile(r"\[[^\[\]]*\]")
_PART = re.compile(r"\\.|\$\{|.", re.DOTALL)


class ConfigurationError(ValueError):
    """Raised for a file that is not HCL; the message names the file and the place."""


class Block(NamedTuple):
    """One block of a file: ``resource "azurerm_subnet" "this" { ... }``."""

    file: Path
    section: str
    """``resource``, ``data``, ``module``, ``variable``, ``output``, ``provider``, ``locals`` or ``terraform``."""
    kind: str
    """The type of a resource or data source; empty for the others."""
    name: str
    body: dict[str, Any]

    def __str__(self) -> str:
        words = (word for word in (self.section, self.kind, self.name) if word)
        return f"{self.file.parent.name}/{self.file.name}: {' '.join(words)}"


class Module(NamedTuple):
    """One folder of files."""

    folder: Path
    blocks: list[Block]

    def of(self, section: str) -> dict[str, Block]:
        """The blocks of a section by name."""
        return {block.name: block for block in self.blocks if block.section == section}

    def locals(self) -> dict[str, Any]:
        """Every local value as it is written."""
        return {
            name: value
            for block in self.blocks
            if block.section == "locals"
            for name, value in plain(block.body).items()
        }

    def references(self) -> set[str]:
        """What the module's expressions name: ``var.location``, ``azurerm_subnet.this.id``."""
        return {name for block in self.blocks for name in references(block.body)}


class Configuration(NamedTuple):
    """The root module and those that it calls, by folder."""

    root: Module
    modules: dict[Path, Module]

    def every(self) -> list[Module]:
        return [self.root, *self.modules.values()]

    def resources(self) -> Iterator[Block]:
        """Every resource and data source."""
        for module in self.every():
            yield from (block for block in module.blocks if block.section in ("resource", "data"))


def read(folder: Path = ROOT) -> Configuration:
    """Parse a folder and its ``modules``; raises ``ConfigurationError`` for what is not HCL."""
    modules = [_module(path) for path in sorted((folder / "modules").iterdir()) if path.is_dir()]
    return Configuration(_module(folder), {module.folder: module for module in modules})


def _module(folder: Path) -> Module:
    return Module(folder, [block for file in sorted(folder.glob("*.tf")) for block in _blocks(file)])


@functools.cache
def _parsed(content: str) -> dict[str, Any]:
    """A file's content as the parser has it; parsing takes a tenth of a second, and tests read the same files often."""
    document: dict[str, Any] = hcl2.loads(content)
    return document


def _blocks(file: Path) -> Iterator[Block]:
    try:
        document = _parsed(file.read_text())
    except Exception as error:
        raise ConfigurationError(f"{file.parent.name}/{file.name} is not HCL: {error}") from error
    for section, found in document.items():
        for body in found if isinstance(found, list) else ():
            yield from _labelled(file, section, body)


def _labelled(file: Path, section: str, body: dict[str, Any]) -> Iterator[Block]:
    depth = _LABELS.get(section, 0)
    entries: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), body)]
    for _ in range(depth):
        entries = [
            ((*labels, text(label)), inner)
            for labels, outer in entries
            for label, inner in outer.items()
            if isinstance(inner, dict)
        ]
    for labels, inner in entries:
        kind, name = ("", *labels)[-2:] if labels else ("", "")
        yield Block(file, section, kind, name, inner)


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A body without what the parser adds."""
    return {text(key): value for key, value in body.items() if not key.startswith("__")}


def text(value: str) -> str:
    """A literal without its quotes."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def references(value: Any) -> Iterator[str]:
    """Every name with a dot in the expressions of a value, those within texts included; an index is left out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from references(key)
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)
    elif isinstance(value, str):
        yield from _named(value)


@functools.cache
def _named(value: str) -> tuple[str, ...]:
    """The names in one text; each is looked at for several checks."""
    code = _code(value)
    return (*_REFERENCE.findall(code), *_REFERENCE.findall(_INDEX.sub("", code)))


def _code(value: str) -> str:
    """What of a value is expression and not text: ``"a-${var.b}"`` gives ``var.b``."""
    modes = ["text"]
    found = []
    for part in _PART.findall(value):
        in_text = modes[-1] == "text"
        if part == '"':
            found.append(" ")
            if not in_text:
                modes.append("text")
            elif len(modes) > 1:
                modes.pop()
        elif part == ("${" if in_text else "{"):
            modes.append("code")
        elif not in_text and part == "}":
            modes.pop()
            found.append(" ")
        elif not in_text:
            found.append(part)
    return "".join(found)
