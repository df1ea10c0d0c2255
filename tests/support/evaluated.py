"""An evaluation that a task of the training job makes once, however often the task is run."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


def evaluated_once(module: ModuleType, kept: Path) -> Callable[..., dict[str, Any]]:
    """Stands for ``module.evaluate``, which makes it the first time; later it is what that left, in a folder ``kept``.

    For tests of what a repeated task leaves in MLflow. That the same seed gives the same figures again is shown
    elsewhere.
    """
    evaluate: Callable[..., dict[str, Any]] = module.evaluate
    found: list[dict[str, Any]] = []

    def once(*given: Any) -> dict[str, Any]:
        folder = given[-1]
        if found:
            shutil.copytree(kept / "made", folder)
        else:
            found.append(evaluate(*given))
            shutil.copytree(folder, kept / "made")
        return found[0]

    return once
