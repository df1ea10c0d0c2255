"""Small definitions of use cases, written into a folder that ``USE_CASES`` then names."""

from pathlib import Path

_SOURCE = '''"""A use case of the tests."""

from serving.scoring.contract import Field
from training.use_case import Binary, UseCase

USE_CASE = UseCase(
    name="{name}",
    title="{title}",
    description="A use case of the tests.",
    owner="{owner}",
    fields=(
        Field("customer", "integer", "Customer", 1, minimum=1, maximum=10**9, role="carried"),
        Field("age", "integer", "Age in years", 40, minimum=0, maximum=120),
    ),
    label=Binary("left"),
    key={key!r},
    online={online!r},
    purpose="Tests.",
    misuse="Anything else.",
)
'''


def define(
    folder: Path, name: str, *, title: str = "", owner: str = "tests", key: str | None = "customer", online: bool = True
) -> None:
    """Write ``<folder>/<name>/__init__.py``."""
    file = folder / name / "__init__.py"
    file.parent.mkdir(parents=True)
    file.write_text(_SOURCE.format(name=name, title=title or f"{name} service", owner=owner, key=key, online=online))
