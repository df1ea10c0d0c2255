"""The pages' examples for Kyverno, Ratify, Argo CD and Flux have no member that those do not know."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.markdown import blocks

ROOT = Path(__file__).resolve().parents[2]
KNOWN = json.loads((ROOT / "tests" / "support" / "custom_resources.json").read_text())
EXAMPLES: dict[str, dict[str, Any]] = {
    document["kind"]: document
    for page in ("signing.md", "gitops.md")
    for _, block in blocks((ROOT / "docs" / page).read_text(), "yaml")
    for document in yaml.safe_load_all(block)
}


def misfits(example: dict[str, Any]) -> list[str]:
    """What the definition of an object's kind does not have."""
    known = KNOWN[example["kind"]]
    found = [] if example.get("apiVersion") == known["apiVersion"] else ["apiVersion"]
    found += {"apiVersion", "kind", "metadata", "spec"} ^ example.keys()
    found += example.get("metadata", {}).keys() - {"name", "namespace"}
    return [*found, *_within(example.get("spec"), known["spec"])]


def _within(value: Any, known: Any) -> Iterator[str]:
    for inner in value if isinstance(value, list) else [value]:
        if isinstance(inner, dict):
            members = known or {}
            yield from inner.keys() - members.keys()
            for name in inner.keys() & members.keys():
                yield from _within(inner[name], members[name])


def places(value: Any, known: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every member of a value that the definition knows by name."""
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, known, (*path, number))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from places(inner, known[name], (*path, name))


def test_every_example_is_of_a_kind_whose_definition_is_here():
    assert EXAMPLES.keys() == KNOWN.keys() - {"about"}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_example_has_no_member_that_its_definition_lacks(kind):
    assert misfits(EXAMPLES[kind]) == []


@pytest.mark.parametrize("kind", EXAMPLES)
def test_misspelt_member_is_found_wherever_it_stands(kind):
    inner = places(EXAMPLES[kind]["spec"], KNOWN[kind]["spec"])
    found = [("apiVersion",), ("metadata", "name"), ("spec",), *(("spec", *path) for path in inner)]
    assert len(found) >= 4
    for *way, last in found:
        planted = copy.deepcopy(EXAMPLES[kind])
        holder: Any = planted
        for step in way:
            holder = holder[step]
        holder[f"{last}s"] = holder.pop(last)
        assert misfits(planted), (kind, *way, last)
