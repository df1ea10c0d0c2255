"""Small real bundles for tests: a logistic regression and an isolation forest on made-up rows."""

import shutil
import tempfile
from pathlib import Path

from tests.support.once import made_once
from training.data.dataset import Dataset, read_table
from training.data.synthetic import make_rows
from training.export.bundle import write_bundle
from training.export.outliers import Outliers
from training.search.ensemble import Member, StackedEnsemble
from training.search.space import space_of
from training.use_case import UseCase, load


def make_dataset(use_case: UseCase, rows: int, seed: int) -> Dataset:
    """Made-up rows, read from a file as the job reads them."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "table.csv"
        make_rows(use_case, rows, seed).to_csv(path, index=False)
        return read_table(use_case, str(path))


def make_bundle(folder: Path, seed: int) -> Path:
    """A bundle of attrition, trained on 600 made-up rows, in ``folder``; another seed is another model.

    Trained once for all tests and workers that ask for the seed: each gets a copy.
    """
    return Path(shutil.copytree(made_once(f"bundle-{seed}", lambda scratch: _train(scratch, seed)), folder))


def _train(folder: Path, seed: int) -> None:
    use_case = load("attrition")
    dataset, space = make_dataset(use_case, 600, seed), space_of(use_case)
    ensemble = StackedEnsemble(space, [Member(space.starting_points[0], 1.0)], 0.0, seed).fit(dataset.x, dataset.y)
    write_bundle(folder, use_case.model_name, ensemble, Outliers(seed).fit(dataset.x), dataset, dataset)
