"""The policy of API Management, held to an extract of Microsoft's reference of policies.

API Management looks at a policy when it is applied, and at its expressions when a request comes. Here both are looked
at as far as text can be: names of elements, attributes and members of ``context``, the order of elements, the sections
that each may stand in, brackets, variables and named values.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from infrastructure.checks.configuration import Configuration, Module, text

REFERENCE = Path(__file__).resolve().parents[1] / "schemas" / "api_management.json"
MODULE, FILE = "api_management", "policy.xml"
_DIRECTIVE = re.compile(r"%\{[^}]*\}")
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
_EXPRESSION = re.compile(r"@[({]")
_NAMED_VALUE = re.compile(r"\{\{([\w-]+)\}\}")
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')
_MEMBER = re.compile(r"\bcontext\.(\w+)(?:\.(\w+))?")
_VARIABLE = re.compile(r'context\.Variables\["(\w+)"\]')
_REASON = re.compile(r'context\.LastError\.Reason == "(\w+)"')
_CLOSES = {")": "(", "]": "[", "}": "{"}


def problems(configuration: Configuration) -> list[str]:
    """Everything that is wrong, one sentence each; nothing where there is no such module."""
    modules = [module for module in configuration.modules.values() if module.folder.name == MODULE]
    return [problem for module in modules for problem in (*_in_file(module.folder / FILE), *_outside(module))]


def filled(template: str, values: dict[str, str] | None = None) -> str:
    """The policy that ``templatefile`` makes of a template whose lists have one entry each; ``values`` by name."""
    known = values or {}
    return _PLACEHOLDER.sub(lambda found: known.get(found[1], "1"), _DIRECTIVE.sub("", template))


def _in_file(file: Path) -> Iterator[str]:
    try:
        root = ElementTree.fromstring(filled(file.read_text()))  # noqa: S314 - our own file
    except ElementTree.ParseError as error:
        yield f"{file.name} is not XML: {error}"
        return
    yield from (f"{file.name}: {problem}" for problem in policy_problems(root))


def policy_problems(root: Element) -> Iterator[str]:
    """What is wrong with a policy document."""
    reference = json.loads(REFERENCE.read_text())
    if (given := [section.tag for section in root]) != reference["sections"] or root.tag != "policies":
        yield f"{root.tag} has {given}, and policies has {reference['sections']}"
    for section in root:
        for element in section:
            yield from _Section(reference, section.tag).policy(element)
    yield from (f"a text stands after {element.tag}" for element in root.iter() if (element.tail or "").strip())
    texts = [*_texts(root)]
    set_by = {element.get("name") for element in root.iter("set-variable")}
    set_by |= {value for element in root.iter() for name, value in element.items() if name.endswith("-variable-name")}
    for expression in (found for found in texts if _EXPRESSION.match(found)):
        yield from _expression(reference, expression)
        yield from (f"nothing sets the variable {name}" for name in _VARIABLE.findall(expression) if name not in set_by)


class _Section:
    """The elements of one section."""

    def __init__(self, reference: dict[str, Any], name: str) -> None:
        self._elements: dict[str, Any] = reference["elements"]
        self._name = name

    def policy(self, element: Element) -> Iterator[str]:
        """A policy that stands in the section by itself."""
        known = self._elements.get(element.tag, {})
        if self._name not in known.get("sections", ()):
            yield f"{element.tag} is not a policy that may stand in {self._name}"
        yield from self._element(element)

    def _element(self, element: Element) -> Iterator[str]:
        known = self._elements.get(element.tag)
        if known is None:
            yield f"the reference knows no element {element.tag}"
            return
        yield from _attributes(element, known.get("attributes", {}))
        if (element.text or "").strip() and not known.get("text"):
            yield f"{element.tag} holds a text"
        if known.get("policies"):
            for inner in element:
                yield from self.policy(inner)
        else:
            yield from self._children(element, known)

    def _children(self, element: Element, known: dict[str, Any]) -> Iterator[str]:
        allowed, given = known.get("children", []), [inner.tag for inner in element]
        yield from (f"{element.tag} has no element {name}" for name in given if name not in allowed)
        yield from (f"{element.tag} lacks {name}" for name in known.get("required", ()) if name not in given)
        places = [allowed.index(name) for name in given if name in allowed]
        if places != sorted(places):
            yield f"the elements of {element.tag} stand in another order than {allowed}"
        for inner in element:
            if inner.tag in allowed:
                yield from self._element(inner)


def _attributes(element: Element, known: dict[str, Any]) -> Iterator[str]:
    yield from (f"{element.tag} has no attribute {name}" for name in element.keys() - known.keys())
    for name, rule in known.items():
        value = element.get(name)
        if value is None:
            if rule.get("required"):
                yield f"{element.tag} lacks the attribute {name}"
            continue
        if value not in rule.get("values", [value]):
            yield f"{name} of {element.tag} is {value!r}: use one of {rule['values']}"
        if value.isdigit() and int(value) > rule.get("most", int(value)):
            yield f"{name} of {element.tag} is {value}: {rule['most']} at most"


def _texts(root: Element) -> Iterator[str]:
    """Every text and every value of an attribute."""
    for element in root.iter():
        yield from (value.strip() for value in (element.text or "", *element.attrib.values()))


def _expression(reference: dict[str, Any], expression: str) -> Iterator[str]:
    code = _LITERAL.sub('""', expression)
    if not _balanced(code):
        yield f"brackets or quotes do not match in {expression}"
    members = reference["members"]
    for first, second in _MEMBER.findall(code):
        if first not in members["context"]:
            yield f"context has no member {first}"
        elif second and first in members and second not in members[first]:
            yield f"context.{first} has no member {second}"
    yield from (
        f"no error has the reason {reason}"
        for reason in _REASON.findall(expression)
        if reason not in reference["reasons"]
    )


def _balanced(code: str) -> bool:
    """Whether every bracket has its other one, in code whose texts are empty."""
    left: list[str] = []
    for character in code.replace('""', ""):
        if character in _CLOSES.values():
            left.append(character)
        elif character in _CLOSES and (not left or left.pop() != _CLOSES[character]):
            return False
    return not left and code.count('"') % 2 == 0


def _outside(module: Module) -> Iterator[str]:
    """What the policy wants of the resources around it: values of the template, named values, the tier."""
    template = (module.folder / FILE).read_text()
    call = next(block.body["xml_content"] for block in module.blocks if "xml_content" in block.body)
    given = set(re.findall(r"\b(\w+)\s*[=:](?!=)", call.partition(FILE)[2]))
    wanted = set(_PLACEHOLDER.findall(template)) | set(re.findall(r"%\{~? for \w+ in (\w+)", template))
    wanted -= set(re.findall(r"%\{~? for (\w+) in", template))
    yield from (f"{FILE} has a place for {name}, which no value is given for" for name in sorted(wanted - given))
    yield from (f"{FILE} has no place for the value {name}" for name in sorted(given - wanted))
    names = {
        text(block.body["display_name"])
        for block in module.blocks
        if block.kind == "azurerm_api_management_named_value"
    }
    used = set(_NAMED_VALUE.findall(template))
    yield from (f"{FILE} uses the named value {name}, and no resource makes it" for name in sorted(used - names))
    (tier,) = {text(block.body["sku_name"]) for block in module.blocks if block.kind == "azurerm_api_management"}
    for name, known in json.loads(REFERENCE.read_text())["elements"].items():
        if f"<{name} " in template and tier.partition("_")[0] not in known.get("tiers", [tier.partition("_")[0]]):
            yield f"the tier {tier} has no policy {name}"
