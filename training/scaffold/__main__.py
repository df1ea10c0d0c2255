"""``python -m training.scaffold``: draft a use case from a table, and say what a person should look at."""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from training import use_case as use_cases
from training.scaffold.draft import Draft, draft
from training.scaffold.profile import ScaffoldError
from training.scaffold.write import write
from training.search.duration import long_training

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Write the folder and print what to look at; 0 when it is written, 2 when it cannot be."""
    parser = argparse.ArgumentParser(prog="python -m training.scaffold", description="Draft a use case from a table.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--data", required=True, help="CSV or Parquet file")
    parser.add_argument("--label", required=True, help="column that is estimated")
    parser.add_argument("--key", help="column that tells one row from another")
    parser.add_argument("--positive", help="value of the label whose probability is estimated")
    parser.add_argument("--into", type=Path, default=ROOT / "use_cases", help="folder of the new folder")
    given = parser.parse_args(arguments)
    folder = given.into.expanduser() / given.name
    try:
        if folder.exists() or given.name in use_cases.names():
            raise ScaffoldError([f"there is a use case {given.name!r}: choose another NAME, or remove it ({folder})"])
        made = draft(given.name, given.data, given.label, given.key, given.positive)
        write(made.use_case, made.profile, made.measured.reasons, folder)
    except ScaffoldError as error:
        print(f"no use case {given.name!r} was made of {given.data}:\n{error}", file=sys.stderr)
        return 2
    print(report(made, folder, given.data))
    return 0


def report(made: Draft, folder: Path, data: str) -> str:
    """What was made, and what to look at, for a terminal."""
    use_case, found, auc = made.use_case, made.profile, made.measured.roc_auc
    label = found.label
    roles = Counter(field.role for field in use_case.fields)
    guessed = " This was a guess: POSITIVE=... says otherwise." if found.guessed else ""
    lines = [
        f"{folder}: {len(use_case.fields)} fields ({roles['feature']} features, {roles['compared']} compared, "
        f"{roles['carried']} carried) from {found.rows:,} rows",
        "",
        f"Positive: {label.field} is {label.positive!r} in {found.positives:,} of {found.rows:,} rows "
        f"({found.positives / found.rows:.1%}); the other value is {label.negative!r}.{guessed}",
        f"Signal: a plain logistic regression reaches a ROC AUC of {auc.value:.3f} "
        f"(95% interval {auc.low:.3f} to {auc.high:.3f}).",
    ]
    if not made.measured.signal:
        lines.append("That is no better than chance: acceptance will refuse a model, unless tuning finds more.")
    if use_case.key is None:
        lines += [
            "No KEY: rows have no identity. Outcomes cannot be joined to requests, so there are no new labels;",
            "one person's records cannot be erased by a key; several records of one person a day all count.",
        ]
    if found.remarks:
        lines += ["", "Please look at:", *(f"  - {remark}" for remark in found.remarks)]
    if told := long_training(found.rows, use_case):
        lines += ["", told]
    lines += ["", "Next:", *(f"  {step}" for step in _next(use_case.name, folder, data))]
    return "\n".join(lines)


def _next(name: str, folder: Path, data: str) -> list[str]:
    elsewhere = "" if folder.parent == ROOT / "use_cases" else f"USE_CASES={folder.parent} "
    return [
        f"read {folder / 'fields.py'} and {folder / '__init__.py'} (docs/your-model.md)",
        f"{elsewhere}make demo USE_CASE={name} DATA={os.path.relpath(data) if os.path.exists(data) else data}",
    ]


if __name__ == "__main__":
    sys.exit(main())
