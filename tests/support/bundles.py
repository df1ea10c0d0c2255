"""Small real bundles for tests: a logistic regression and an isolation forest on synthetic employees."""

import tempfile
from pathlib import Path

from training.data.dataset import read_employees
from training.export.bundle import write_bundle
from training.export.outliers import Outliers
from training.search.ensemble import Blend, Member
from training.search.models import STARTING_POINTS
from use_cases.attrition.sample import make_employees


def make_bundle(folder: Path, seed: int) -> Path:
    """Train on 600 synthetic employees and write the bundle; another seed is another model."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "employees.csv"
        make_employees(600, seed).to_csv(path, index=False)
        employees = read_employees(str(path))
    blend = Blend([Member(STARTING_POINTS[0], 1.0)], 0.0, seed).fit(employees.x, employees.y)
    outliers = Outliers(seed).fit(employees.x)
    write_bundle(folder, "employee_attrition", blend, outliers, employees)
    return folder
