"""The rails name no use case: no field, label, title or DAG id of one stands in their code, and nothing imports one.

Words that are a use case's and an ordinary word of the trade as well are listed in ``ordinary_words.py`` beside its
definition: ``ORDINARY_WORDS``, from the word to the reason why it may stand in the code.
"""

import ast
import importlib
import importlib.util
import re

import pytest

from tests.support.every_use_case import NAMES, OWN, ROOT, found_in
from training.use_case import load

RAILS = ("dags", "plugins", "training", "serving", "k8s", "embedded", "compose", "monitoring")
SUFFIXES = (
    ".py", ".sql", ".kql", ".sh", ".yaml", ".yml", ".json", ".toml", ".html", ".js", ".css", ".txt", ".in", ".j2",
    ".tmpl", "",
)  # fmt: skip
FILES = [
    file
    for rail in RAILS
    for file in sorted((ROOT / rail).rglob("*"))
    if file.is_file() and file.suffix in SUFFIXES and "__pycache__" not in file.parts and "static" not in file.parts
]
QUOTED = re.compile(r"""(["'`])((?:(?!\1)[^\\\n]|\\.)*)\1""")
SQL_WORD = re.compile(r"\b(SELECT|FROM|WHERE|JOIN|INSERT|CREATE|PARTITION|GROUP BY|ORDER BY|summarize|extend)\b")
SQL_TEXT = re.compile(r"'(?:[^']|'')*'|--[^\n]*|//[^\n]*")
"""String literals and comments of SQL and KQL: what is left are keywords and identifiers."""


@pytest.fixture(scope="module", autouse=True)
def the_tests_own_use_case():
    with found_in(OWN):
        yield


def words_of(use_case):
    """What may not stand in the rails as a whole string literal or SQL identifier."""
    return {field.name for field in use_case.fields} | {use_case.label.field} | set(use_case.columns.values())


def phrases_of(use_case):
    """What may not stand in the rails anywhere."""
    ids = {getattr(use_case, name) for name in dir(use_case) if name.endswith(("_dag", "_asset"))}
    assert len(ids) > 10
    return ids | {use_case.title, f"use_cases.{use_case.name}", f"use_cases/{use_case.name}"}


def ordinary_words(name):
    if importlib.util.find_spec(f"use_cases.{name}.ordinary_words") is None:
        return {}
    found = importlib.import_module(f"use_cases.{name}.ordinary_words").ORDINARY_WORDS
    assert all(len(reason) > 10 for reason in found.values())
    return found


def literals(file, text):
    """Whole string literals of a file, and identifiers of the SQL and KQL that it holds."""
    if file.suffix == ".py":
        strings = [
            node.value
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    elif file.suffix in (".sql", ".kql"):
        strings = [text]
    else:
        strings = [match[2] for match in QUOTED.finditer(text)]
        # YAML and TOML take a word without quotes as well.
        strings += re.findall(r"^\s*(?:- |[\w.-]+[:=] ?)([\w.-]+)\s*$", text, re.MULTILINE)
    found = set(strings)
    for string in strings:
        if file.suffix in (".sql", ".kql") or SQL_WORD.search(string):
            found |= set(re.findall(r"\w+", SQL_TEXT.sub(" ", string)))
            found |= {match[2] for match in QUOTED.finditer(string)}
    return found


@pytest.fixture(scope="module")
def code():
    texts = {file: file.read_text(encoding="utf-8", errors="replace") for file in FILES}
    return {str(file.relative_to(ROOT)): (text, literals(file, text)) for file, text in texts.items()}


@pytest.mark.parametrize("name", NAMES)
def test_no_field_label_title_or_dag_id_of_a_use_case_stands_in_the_rails(name, code):
    use_case = load(name)
    words = words_of(use_case) - set(ordinary_words(name))
    found = []
    for file, (text, strings) in code.items():
        found += [f"{file}: the word {word!r}" for word in sorted(words & strings)]
        found += [f"{file}: {phrase!r}" for phrase in sorted(phrases_of(use_case)) if phrase in text]
    assert found == []


@pytest.mark.parametrize("name", NAMES)
def test_ordinary_words_are_words_of_the_use_case_that_the_rails_do_use(name, code):
    used = set().union(*(strings for _, strings in code.values()))
    assert set(ordinary_words(name)) <= words_of(load(name)) & used


def test_search_sees_each_kind_of_file(code):
    assert {file.split("/")[0] for file in code} == set(RAILS)
    assert len(code) > 200


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".py", 'x = row["Overtime"]'),
        (".py", 'SQL = "SELECT Overtime, other FROM t"'),
        (".py", "SQL = f'''SELECT \"Overtime\" FROM {table}'''"),
        (".sql", "SELECT a.Overtime FROM a"),
        (".kql", "Log | extend x = Overtime"),
        (".yaml", "column: Overtime"),
        (".toml", "column = 'Overtime'"),
        (".js", "row['Overtime']"),
        (".json", '{"column": "Overtime"}'),
    ],
)
def test_search_finds_a_name_that_is_planted(suffix, text, tmp_path):
    assert "Overtime" in literals(tmp_path / f"planted{suffix}", text)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [(".py", 'x = "Overtime is work"'), (".py", "SQL = \"SELECT a FROM t WHERE b = 'Overtime hours'\""),
     (".sql", "SELECT a -- Overtime\nFROM t"), (".py", "Overtime = 1")],
)  # fmt: skip
def test_search_leaves_sentences_values_and_comments_alone(suffix, text, tmp_path):
    assert "Overtime" not in literals(tmp_path / f"planted{suffix}", text)
