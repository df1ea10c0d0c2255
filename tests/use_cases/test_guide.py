"""docs/your-model.md, followed step by step: its commands and blocks do what it says."""

import re
import runpy
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from serving.scoring.bundle import Bundle
from tests.support.every_use_case import found_in
from tests.support.inline_engine import InlineEngine
from training.data.data_error import DataError
from training.data.dataset import Dataset, read_table
from training.export.bundle import write_bundle
from training.export.outliers import Outliers
from training.export.own_steps import check_convertible
from training.export.parity import TOLERANCE, check_parity
from training.scaffold.__main__ import main as scaffold
from training.search.ensemble import Member, StackedEnsemble
from training.search.space import space_of
from training.search.study import search
from training.search.trials import TrialData, split_folds
from training.use_case import Thresholds, load

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "your-model.md").read_text()
ROWS = 240


def blocks(language: str, section: str) -> list[str]:
    """The guide's blocks in a language below a heading."""
    (text,) = re.findall(rf"^#+ {re.escape(section)}\n(.*?)(?=^#+ |\Z)", GUIDE, re.DOTALL | re.MULTILINE)
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def brought(tmp_path_factory):
    """The folder that the first command has made, the name of the use case, and its table."""
    folder = tmp_path_factory.mktemp("guide")
    rng, path = np.random.default_rng(4), folder / "customers.csv"
    months, calls = rng.integers(1, 60, ROWS), rng.poisson(2.0, ROWS)
    leaves = rng.random(ROWS) < 1 / (1 + np.exp(0.05 * months - 0.6 * calls + 0.5))
    columns = {"customer_id": range(1, ROWS + 1), "months": months, "calls": calls}
    columns |= {"plan": rng.choice(["basic", "plus", "pro"], ROWS), "churned": np.where(leaves, "yes", "no")}
    pd.DataFrame(columns).to_csv(path, index=False)
    command = next(line for line in blocks("sh", "Bring a table")[0].splitlines() if line.startswith("make use-case"))
    given = dict(word.split("=", 1) for word in shlex.split(command)[2:])
    assert given.pop("DATA") == "path/to.csv"
    arguments = [part for name, value in given.items() for part in (f"--{name.lower()}", value)]
    assert scaffold([*arguments, "--data", str(path), "--into", str(folder / "made")]) == 0
    with found_in(folder / "made"):
        yield folder / "made" / given["NAME"], given["NAME"], path


@contextmanager
def edited(folder: Path) -> Iterator[None]:
    """The definition as its files are by now: what was imported of it before is forgotten."""
    with found_in(folder.parent):
        pass
    with found_in(folder.parent):
        yield


def trained(dataset: Dataset):
    """Two trials of the search space that the definition has by now."""
    space = space_of(dataset.use_case)
    data = TrialData(dataset.x, dataset.y, split_folds(dataset.y, dataset.groups, 3, 5), space)
    if space.make_features:
        check_convertible(space, data.x, data.y, 5)
    return search(data, InlineEngine(data), trials=2, seed=5)


def test_first_command_makes_a_definition_that_takes_the_table(brought):
    _, name, path = brought
    dataset = read_table(load(name), str(path))
    assert len(dataset.frame) == ROWS
    assert set(load(name).columns) == {"customer_id", "months", "calls", "plan", "churned"}


def test_field_that_is_edited_is_followed_by_the_door(brought):
    folder, name, path = brought
    fields = folder / "fields.py"
    written = fields.read_text()
    (field,) = [one for one in load(name).fields if one.name == "months"]
    try:
        fields.write_text(written.replace(f"maximum={field.maximum}", f"maximum={field.example}", 1))
        assert fields.read_text() != written
        with edited(folder), pytest.raises(DataError, match="months"):
            read_table(load(name), str(path))
    finally:
        fields.write_text(written)


def test_search_of_the_guide_is_what_is_searched(brought):
    folder, name, path = brought
    block, _ = blocks("python", "Another algorithm")
    (folder / "search.py").write_text(block)
    try:
        with edited(folder):
            results = trained(read_table(load(name), str(path)))
            assert {result.parameters["family"] for result in results} == {"boosting"}
            assert all(3 <= result.parameters["max_depth"] <= 6 for result in results)
    finally:
        (folder / "search.py").unlink()


def test_model_of_the_guide_is_trained_and_exported_exactly(brought, tmp_path):
    folder, name, path = brought
    _, block = blocks("python", "Another algorithm")
    (folder / "search.py").write_text(block)
    try:
        with edited(folder):
            dataset = read_table(load(name), str(path))
            results = trained(dataset)
            assert [result.parameters["width"] for result in results][:1] == [8]
            members = [Member(result.parameters, 1.5) for result in results]
            ensemble = StackedEnsemble(space_of(dataset.use_case), members, -0.2, 5).fit(dataset.x, dataset.y)
            outliers = Outliers(5).fit(dataset.x)
            write_bundle(tmp_path, name, ensemble, outliers, dataset)
            assert check_parity(tmp_path, ensemble, outliers, dataset.x, 5).probability <= TOLERANCE
            assert Bundle.load(tmp_path).reasons is None
    finally:
        (folder / "search.py").unlink()


def test_features_of_the_guide_convert_and_train(brought):
    folder, name, path = brought
    (block,) = blocks("python", "Own features")
    (folder / "features.py").write_text(block)
    try:
        with edited(folder):
            dataset = read_table(load(name), str(path))
            assert space_of(dataset.use_case).make_features is not None
            assert len(trained(dataset)) == 2
    finally:
        (folder / "features.py").unlink()


def test_thresholds_of_the_guide_are_those_that_a_definition_has(brought, tmp_path):
    _, name, _ = brought
    (block,) = blocks("python", "Own metric")
    (tmp_path / "block.py").write_text(block)
    made = runpy.run_path(str(tmp_path / "block.py"), init_globals={"Thresholds": Thresholds})
    changed = msgspec.structs.replace(load(name), thresholds=made["thresholds"])
    assert changed.thresholds.minimum_roc_auc == 0.7


def test_commands_before_a_pull_request_name_targets_and_folders_that_are_there():
    (block,) = blocks("sh", "Before a pull request")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in block.splitlines():
        words = shlex.split(line)
        assert words[0] == "make"
        assert words[1] in targets
        assert all((ROOT / word.partition("=")[2]).is_dir() for word in words[2:])
