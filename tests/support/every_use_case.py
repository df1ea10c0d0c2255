"""Every use case there is, with the one that lives in tests alone (``tests/support/use_cases``)."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import use_cases
from training import use_case as definitions

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "tests" / "support" / "use_cases"
"""Name it in ``USE_CASES``, and the rails know one more use case."""
PLACES = (ROOT / "use_cases", OWN)
NAMES = sorted(file.parent.name for place in PLACES for file in place.glob("*/__init__.py"))


@contextlib.contextmanager
def found_in(folder: Path) -> Iterator[None]:
    """As ``USE_CASES=folder`` does, for this process and a while.

    Python keeps no bytecode of it: what a test edits within the same second would be taken for unchanged.
    """
    use_cases.__path__.append(str(folder))
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = kept
        use_cases.__path__.remove(str(folder))
        for module in [name for name in sys.modules if name.startswith("use_cases.")]:
            if str(getattr(sys.modules[module], "__file__", "")).startswith(f"{folder}/"):
                del sys.modules[module]
        definitions.load.cache_clear()


def names_of(kind: str) -> list[str]:
    """The names of those whose label is of a kind, by the tag of its type."""
    with found_in(OWN):
        return [name for name in NAMES if definitions.load(name).label.__struct_config__.tag == kind]
