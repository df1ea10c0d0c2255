"""Write the pages that the code already says: ``make docs``. A test fails where one is stale.

- ``dags.md``: the runbooks of the DAGs, from their docstrings, which Airflow shows as ``doc_md``; of one use case.
- ``reference.md``: its tables, between the marks ``<!-- NAME: generated -->`` and ``<!-- end -->``.
- ``architecture.md``: its glossary, likewise.
- ``evidence.schema.json``: the JSON Schema of the evidence document.
"""

import ast
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]
NOTICE = "<!-- Made by `make docs` from the DAGs' docstrings: change those. -->"


EXAMPLE = "attrition"
"""The use case whose DAG ids and fields the pages show."""
FORECASTS = {
    "forecast": "score",
    "release_table": "release",
    "retrain_weekly": "retrain_weekly",
    "rollback_table": "rollback",
}
"""DAG files of a use case without a server, with the end of the id of the DAG that each makes."""
FORECAST_EXAMPLE = "demand"
INTRODUCTION = (
    f"Each file of `dags/` makes one DAG for each folder in `use_cases/`; its id begins with the use case's name. "
    f"This page shows those of `{EXAMPLE}`, and of `{FORECAST_EXAMPLE}` where the files differ. "
    "A definition that does not hold has no DAGs: Airflow lists what is wrong "
    "with it as an import error of [broken_use_cases.py](../dags/broken_use_cases.py), and all others keep theirs."
)


def dags() -> str:
    """All runbooks on one page, each under its DAG's id."""
    from lifecycle.defaults import runbook
    from training.use_case import load

    parts = ["# The DAGs", NOTICE, INTRODUCTION]
    for path in sorted((ROOT / "dags").glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        if not docstring.startswith("# "):
            continue
        example = load(FORECAST_EXAMPLE if path.stem in FORECASTS else EXAMPLE)
        title, _, body = runbook(docstring, example).strip().partition("\n")
        action = title.removeprefix("# ").partition(":")[0].lower()
        ending = FORECASTS.get(path.stem, path.stem)
        parts += [f"## `{example.name}_{ending}`: {action}", f"[{path.name}](../dags/{path.name})", body.strip()]
    return "\n\n".join(parts) + "\n"


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and docstring of each assignment of a module or class, as the source has them."""
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name, kind, value = statement.target.id, ast.unparse(statement.annotation), statement.value
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name, kind, value = statement.targets[0].id, "", statement.value
        else:
            continue
        text = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = " ".join(str(following.value.value).split())
        yield name, kind, ast.unparse(value) if value else "", text.replace("``", "`")


def _classes(path: str) -> dict[str, ast.ClassDef]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
    cells = head.split("|")
    lines = [cells, ["---"] * len(cells), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines)


def settings() -> str:
    """Every setting of ``config/*.toml``, by table."""
    classes = _classes("plugins/lifecycle/settings.py") | _classes("training/drift/limits.py")
    classes |= _classes("training/forecasting/limits.py")
    tables = {
        "(top)": "Settings",
        "[training]": "Training",
        "[release]": "Release",
        "[scoring]": "Scoring",
        "[retraining]": "Retraining",
        "[events]": "Events",
        "[prices]": "Prices",
        "[every_use_case], [use_cases.<name>]": "UseCaseSettings",
        "[every_use_case.staging], [every_use_case.production]": "Target",
        "[every_use_case.drift]": "Limits",
        "[every_use_case.forecast]": "ForecastLimits",
    }
    parts = []
    for title, name in tables.items():
        rows = [
            (f"`{field}`", f"`{default}`" if default else "required", text)
            for field, kind, default, text in _documented(classes[name].body)
            if kind not in classes
        ]
        parts += [f"**`{title}`**", _table("Setting|Default|", rows)]
    return "\n\n".join(parts)


def server() -> str:
    """Every environment variable of the scoring server."""
    fields = _documented(_classes("serving/settings.py")["Settings"].body)
    return _table(
        "Variable|Default|", [(f"`SCORING_{name.upper()}`", f"`{value}`", text) for name, _, value, text in fields]
    )


def contract() -> str:
    """The fields of a request to the example's service."""
    from serving.scoring.spelling import number_text
    from training.use_case import load

    rows = []
    for field in load(EXAMPLE).fields:
        allowed = ", ".join(field.categories) or f"{number_text(field.minimum)} to {number_text(field.maximum)}"
        notes = [] if field.role == "feature" else [f"{field.role}, not used"]
        notes += ["sensitive"] if field.sensitive else []
        notes += [] if field.required else ["may be absent"]
        rows.append((f"`{field.name}`", field.kind, field.unit or "", allowed, f"`{field.example}`", ", ".join(notes)))
    return _table("Field|Kind|Unit|Known categories, or range|Example|", rows)


def tags() -> str:
    """Names in MLflow: tags, aliases, artifacts."""
    found = _documented(ast.parse((ROOT / "training/registry/tags.py").read_text()).body)
    return _table("Name|", [(f"`{value.strip(chr(39))}`", text) for _, _, value, text in found])


def spellings() -> str:
    """What is taken as what, for each concept, with examples that are read as the page is made."""
    from serving.scoring.spelling import NAMES, TABLE, readings

    rows = [(concept.name, concept.typed, concept.text) for concept in TABLE]
    examples = [
        (concept.name, f"`{typed}`", f"`{cell}`", result)
        for concept in TABLE
        for typed, cell, result in readings(concept)
    ]
    return "\n\n".join(
        [
            _table("Concept|Typed: JSON, Parquet, DataFrame|Text: a cell of a CSV file", [*rows, *NAMES]),
            _table("Concept|Typed|Text|Is read as", examples),
        ]
    )


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "server": server,
    "contract": contract,
    "spellings": spellings,
    "tags": tags,
}


def glossary() -> str:
    """The words of this project, as the page beside *Releases* shows them."""
    from lifecycle.release_page.glossary import WORDS

    return _table("Word|What it means here", WORDS)


def reference() -> str:
    """``reference.md`` with its tables made again."""
    return _with_tables("reference.md", TABLES)


def architecture() -> str:
    """``architecture.md`` with its glossary made again."""
    return _with_tables("architecture.md", {"glossary": glossary})


def _with_tables(page: str, tables: dict[str, Callable[[], str]]) -> str:
    text = (HERE / page).read_text()
    for name, make in tables.items():
        before, mark, rest = text.partition(f"<!-- {name}: generated -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise ValueError(f"{page} needs the marks <!-- {name}: generated --> and <!-- end -->")
        text = f"{before}{mark}\n{make()}\n\n{end}{after}"
    return text


def evidence_schema() -> str:
    """The published schema of the evidence document."""
    from lifecycle.evidence import document as evidence

    return json.dumps(evidence.schema(), indent=2) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "dags.md": dags,
    "reference.md": reference,
    "architecture.md": architecture,
    "evidence.schema.json": evidence_schema,
}


if __name__ == "__main__":
    for page, write in PAGES.items():
        (HERE / page).write_text(write())
        sys.stdout.write(f"docs/{page}\n")
