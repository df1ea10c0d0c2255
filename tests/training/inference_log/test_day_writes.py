"""A day of a curated table is replaced as a whole, however the write ends."""

import os
import shutil
from contextlib import nullcontext
from datetime import date

import pytest

from training.inference_log import layout
from training.inference_log.spark_engine import DeltaEngine
from use_cases.attrition import USE_CASE as ATTRITION

DAY = date(2026, 11, 2)


class Killed(BaseException):
    """Stands for the end of the process: nothing may handle it."""


def make(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(name)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def of_partition(tables):
    return layout.day_folder(tables, "scores", DAY)


READERS = {
    "its folder": lambda tables: names(of_partition(tables)),
    "the list of days": lambda tables: (
        names(tables / "scores" / "day=2026-11-02") if layout.partitions(tables, "scores", layout.DAY) == [DAY] else []
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("moves", [0, 1, 2, 3])
def test_folder_whose_replacement_is_killed_is_the_old_one_or_the_new_one_for_every_reader(
    tmp_path, monkeypatch, moves, reader
):
    """Killed between its two moves, a replacement left no folder until its night was run again."""
    target, scratch = of_partition(tmp_path), tmp_path / ".part"
    make(target, "old-1", "old-2")
    make(scratch, "new-1", "new-2")
    real, left = os.replace, [moves]

    def replace(source, destination):
        if not left[0]:
            raise Killed
        left[0] -= 1
        real(source, destination)

    with monkeypatch.context() as patched, pytest.raises(Killed) if moves < 3 else nullcontext():
        patched.setattr(os, "replace", replace)
        layout.replace_folder(scratch, target)
    assert READERS[reader](tmp_path) == (["old-1", "old-2"] if moves < 2 else ["new-1", "new-2"])
    make(scratch, "newest")
    layout.replace_folder(scratch, target)
    assert "newest" in names(target)
    assert names(target.parent) == [target.name]


def test_folder_that_is_asked_for_between_the_moves_of_its_replacement_is_replaced_all_the_same(tmp_path, monkeypatch):
    target, scratch = of_partition(tmp_path), tmp_path / ".part"
    make(target, "old")
    make(scratch, "new")
    real, seen = os.replace, []

    def replace(source, destination):
        real(source, destination)
        if source == target and not seen:
            seen.extend(names(of_partition(tmp_path)))

    monkeypatch.setattr(os, "replace", replace)
    layout.replace_folder(scratch, target)
    assert (seen, names(target), names(target.parent)) == (["old"], ["new"], [target.name])


def test_folder_that_was_half_removed_is_never_put_back(tmp_path, monkeypatch):
    """Curated tables may be deleted and made again: what a killed removal had left must not stand for the whole."""
    target, scratch = of_partition(tmp_path), tmp_path / ".part"
    make(target, "old-1", "old-2")
    make(scratch, "new")

    def removed_in_part(folder):
        for path in sorted(folder.glob("*-1")):
            path.unlink()
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(layout, "remove_folder", removed_in_part)
        with pytest.raises(Killed):
            layout.replace_folder(scratch, target)
    shutil.rmtree(target)
    assert not of_partition(tmp_path).exists()
    assert layout.partitions(tmp_path, "scores", layout.DAY) == []


class Recorder:
    """Stands for a Spark session and its frames: keeps every call, in order."""

    def __init__(self):
        self.calls = []
        self.conf = self.read = self.write = self
        self.dtypes = [("a", "int")]

    def __getattr__(self, name):
        def called(*arguments):
            self.calls.append((name, *arguments))
            return self

        return called


@pytest.fixture
def delta():
    """The Delta engine over a recorder. (Delta's Java library is not on PyPI, so its commit itself is not run here.)"""
    recorder = Recorder()
    engine = DeltaEngine(recorder, ATTRITION)
    recorder.calls.clear()
    return engine, recorder.calls


def test_day_on_delta_is_one_commit_that_replaces_that_day_only(delta, tmp_path):
    engine, calls = delta
    engine.write_day(["SELECT 1 AS a"], tmp_path, "inference", DAY, order_by="a")
    assert calls == [
        ("sql", "SELECT 1 AS a ORDER BY a"),
        ("selectExpr", "DATE '2026-11-02' AS day", "*"),
        ("format", "delta"),
        ("mode", "overwrite"),
        ("partitionBy", "day"),
        ("option", "mergeSchema", "true"),
        ("option", "replaceWhere", "day = DATE '2026-11-02'"),
        ("save", str(tmp_path / "inference")),
    ]


def test_delta_table_is_read_by_its_log_and_one_day_by_its_partition(delta, tmp_path):
    engine, calls = delta
    (tmp_path / "inference" / "_delta_log").mkdir(parents=True)
    engine.view_days("rows", tmp_path, "inference", {"a": "INT"}, DAY)
    assert calls == [
        ("format", "delta"),
        ("load", str(tmp_path / "inference")),
        ("where", "day = DATE '2026-11-02'"),
        ("selectExpr", "a"),
        ("createOrReplaceTempView", "rows"),
    ]


def test_delta_table_that_is_not_there_yet_is_empty(delta, tmp_path):
    engine, calls = delta
    engine.view_days("rows", tmp_path, "inference", {"a": "INT"})
    assert calls[0] == ("sql", "SELECT CAST(NULL AS INT) AS a WHERE false")
