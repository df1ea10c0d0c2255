"""Run an entry point of an installed package: what Databricks does for a ``python_wheel_task``.

``wheel_runner.py PACKAGE ENTRY_POINT [ARGUMENT ...]``. The entry point is one that the package declares,
otherwise a function of the package itself.
"""

import importlib
import sys
from importlib.metadata import PackageNotFoundError, distribution


def main() -> int | str | None:
    """Call it; its return value is the exit code, as for a console script."""
    package, name, *arguments = sys.argv[1:]
    sys.argv = [name, *arguments]
    try:
        declared = [point for point in distribution(package).entry_points if point.name == name]
    except PackageNotFoundError:
        raise SystemExit(f"package {package!r} is not installed: list its wheel in libraries") from None
    function = declared[0].load() if declared else getattr(importlib.import_module(package), name)
    result: int | str | None = function()
    return result


if __name__ == "__main__":
    sys.exit(main())
