"""Write a use case as Python that people read and edit, laid out as ruff lays it out."""

import os
import shutil
import tempfile
import textwrap
import unicodedata
from pathlib import Path
from typing import Any

import msgspec

from serving.scoring.contract import Field
from serving.scoring.spelling import LARGEST_WHOLE
from training.scaffold.profile import Profile
from training.use_case import Group, UseCase

_WIDTH = 120
_INDENT = "    "
_PLAIN_UP_TO = 0x17F
"""The last of the Latin letters with accents; ruff takes many characters beyond for misspelled ones."""
_TAKEN_FOR_OTHERS = frozenset("´¸×ıſ")  # noqa: RUF001
_LIKE_ADDRESSES = ("/", "0.0.0.0", "::")  # noqa: S104
"""How a text begins that ruff could take for a folder or an address."""
_NOQA = "# ruff: noqa: RUF001, S104, S108, RUF100 (the texts are the table's)\n"


class Call(msgspec.Struct, frozen=True):
    """A call to be written: arguments by name (empty for a positional one), each with a comment or none."""

    name: str
    arguments: tuple[tuple[str, Any], ...]
    comments: dict[str, str] = {}


class Names(msgspec.Struct, frozen=True):
    """A plain name to be written."""

    name: str


_ENDS = ("minimum", "maximum")
_LIMITS = {LARGEST_WHOLE: Names("2**53 - 1"), -LARGEST_WHOLE: Names("1 - 2**53")}


def write(use_case: UseCase, profile: Profile, reasons: dict[str, str], folder: Path) -> None:
    """Write ``__init__.py`` and ``fields.py`` into a new ``folder``, both or none.

    ``reasons`` says for each threshold why it is what it is. Raises ``FileExistsError`` where the folder is there.
    """
    if folder.exists():
        raise FileExistsError(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".use-case-", dir=folder.parent))
    try:
        (scratch / "fields.py").write_text(fields_module(use_case, profile), encoding="utf-8")
        (scratch / "__init__.py").write_text(definition_module(use_case, profile, reasons), encoding="utf-8")
        scratch.chmod(0o755)
        os.rename(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def fields_module(use_case: UseCase, profile: Profile) -> str:
    """The text of ``fields.py``."""
    lines = [
        f'"""The fields of a request to {use_case.name}, in request order, drafted from a table.',
        "",
        "Ranges leave room around what the table holds. Descriptions are the columns' names: say what they mean, and",
        "add ``unit`` to a number that has one. docs/your-model.md says what the roles mean.",
        '"""',
        "",
        "from serving.scoring.contract import Field",
        "",
        "FIELDS: tuple[Field, ...] = (",
    ]
    for choice in profile.choices:
        for comment in choice.comments:
            lines += _comment(comment, _INDENT)
        lines.append(f"{_INDENT}{_rendered(_field_call(choice.field), _INDENT, 1)},")
    return _with_noqa("\n".join([*lines, ")", ""]))


def definition_module(use_case: UseCase, profile: Profile, reasons: dict[str, str]) -> str:
    """The text of ``__init__.py``."""
    thresholds = _differing(use_case.thresholds, always=tuple(reasons))
    label = _differing(use_case.label, always=("positive", "negative"))
    arguments: list[tuple[str, Any]] = [
        *((name, getattr(use_case, name)) for name in ("name", "title", "description", "owner")),
        ("fields", Names("FIELDS")),
        ("label", Call("Binary", tuple(label))),
        *([("key", use_case.key)] if use_case.key is not None else []),
        *([("groups", tuple(_group_call(group) for group in use_case.groups))] if use_case.groups else []),
        ("thresholds", Call("Thresholds", tuple(thresholds), reasons)),
        ("horizon_days", use_case.horizon_days),
        ("purpose", use_case.purpose),
        ("misuse", use_case.misuse),
        ("entities", use_case.entities),
        ("trials", use_case.trials),
    ]
    comments = {
        "owner": "Who answers for it.",
        "label": f"{profile.positives:,} of {profile.rows:,} rows have the positive value."
        + (" Which of the two that is was guessed." if profile.guessed else ""),
        "horizon_days": "How long an outcome may take to be known. Say what holds for yours.",
        "purpose": "The model card begins with these two. Write them in your own words.",
        "entities": "What people call the rows, for example customers.",
        **({} if use_case.key else {"fields": "Without a key, outcomes cannot be joined to requests."}),
        **({"trials": "Lowered: each trial takes longer on a table of this size."} if use_case.trials < 30 else {}),
    }
    imported = ", ".join(["Binary", *(["Group"] if use_case.groups else []), "Thresholds", "UseCase"])
    call = _rendered(Call("UseCase", tuple(arguments), comments), "", len("USE_CASE = "))
    text = (
        f'"""Use case {use_case.name}, drafted from a table by ``make use-case``: correct what it guessed."""'
        f"\n\nfrom training.use_case import {imported}\n"
        f"from use_cases.{use_case.name}.fields import FIELDS\n\nUSE_CASE = {call}\n"
    )
    return _with_noqa(text)


def _field_call(field: Field) -> Call:
    members = _differing(field, always=("name", "kind", "description", "example"))
    return Call(
        "Field", tuple((name, _LIMITS.get(value, value) if name in _ENDS else value) for name, value in members)
    )


def _group_call(group: Group) -> Call:
    return Call("Group", (("", group.field), *([("bands", group.bands)] if group.bands else [])))


def _differing(value: msgspec.Struct, always: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Members that are not what they are by default, and those that are shown in any case."""
    return [
        (member.name, given)
        for member in msgspec.structs.fields(value)
        if (given := getattr(value, member.name)) != member.default or member.name in always
    ]


def _with_noqa(text: str) -> str:
    """The module, with ruff told to leave its texts alone where one of them could look odd to it."""
    odd = any(ord(letter) > _PLAIN_UP_TO or letter in _TAKEN_FOR_OTHERS for letter in text)
    odd = odd or any(f"{quote}{start}" in text for quote in "\"'" for start in _LIKE_ADDRESSES)
    return _NOQA + text if odd else text


def _rendered(value: Any, indent: str, beside: int) -> str:
    """A value as Python; ``beside`` columns of its line are taken by what stands before and after it."""
    flat = _flat(value)
    if flat is not None and len(indent) + beside + _columns(flat) <= _WIDTH:
        return flat
    inner = indent + _INDENT
    if isinstance(value, Call):
        lines = []
        for name, argument in value.arguments:
            lines += _comment(value.comments[name], inner) if name in value.comments else []
            head = f"{name}=" if name else ""
            lines.append(f"{inner}{head}{_rendered(argument, inner, _columns(head) + 1)},")
        return "\n".join([f"{value.name}(", *lines, f"{indent})"])
    if isinstance(value, tuple):
        return "\n".join(["(", *(f"{inner}{_rendered(item, inner, 1)}," for item in value), f"{indent})"])
    if isinstance(value, str):
        return "\n".join(["(", *(f"{inner}{_quoted(part)}" for part in _parts(value, inner)), f"{indent})"])
    return _flat(value) or repr(value)


def _flat(value: Any) -> str | None:
    """A value as Python on one line; ``None`` where comments need lines of their own."""
    if isinstance(value, Call):
        if value.comments:
            return None
        arguments = [(name, _flat(argument)) for name, argument in value.arguments]
        return f"{value.name}({', '.join(f'{name}={text}' if name else f'{text}' for name, text in arguments)})"
    if isinstance(value, tuple):
        return f"({', '.join(_flat(item) or '' for item in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, str):
        return _quoted(value)
    return value.name if isinstance(value, Names) else repr(value).replace("e+", "e")


def _quoted(text: str) -> str:
    """A string literal with the quotes that need fewer backslashes, as ruff chooses them."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    written = "".join(
        f"\\{letter}" if letter in (quote, "\\") else letter if letter.isprintable() else repr(letter)[1:-1]
        for letter in text
    )
    return f"{quote}{written}{quote}"


def _parts(text: str, indent: str) -> list[str]:
    """A text in parts that fit a line each."""
    room, parts, part = _WIDTH - len(indent), [], ""
    for word in _words(text):
        if part and _columns(_quoted(part + word)) > room:
            parts.append(part)
            part = ""
        part += word
    return [*parts, part]


def _words(text: str) -> list[str]:
    """Words with the blanks behind them, none so long that it does not fit a line."""
    found: list[str] = []
    for word in text.split(" "):
        pieces = [word[start : start + 10] for start in range(0, len(word), 10)] if len(word) > 60 else [word]
        found += [*pieces[:-1], f"{pieces[-1]} "]
    return [*found[:-1], found[-1][:-1]]


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _columns(text: str) -> int:
    """Columns that a text takes on a screen: Chinese, Japanese and Korean letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
