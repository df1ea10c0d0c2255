"""A day of a curated table is replaced as a whole, however the write ends."""

import os
from datetime import date

import pytest

from training.inference_log import layout
from training.inference_log.spark_engine import DeltaEngine
from use_cases.attrition import USE_CASE as ATTRITION

DAY = date(2026, 11, 2)


class Killed(BaseException):
    """Stands for the end of the process: nothing may handle it."""


def make(folder, *names):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(name)


@pytest.mark.parametrize("moves", [0, 1])
def test_folder_whose_replacement_is_killed_is_the_old_one_or_none_and_then_the_new_one(tmp_path, monkeypatch, moves):
    target, scratch = tmp_path / "day=2026-11-02", tmp_path / ".part"
    make(target, "old-1", "old-2")
    make(scratch, "new-1", "new-2")
    real, left = os.replace, [moves]

    def replace(source, destination):
        if not left[0]:
            raise Killed
        left[0] -= 1
        real(source, destination)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(Killed):
        layout.replace_folder(scratch, target)
    monkeypatch.undo()
    seen = sorted(path.name for path in target.iterdir()) if target.exists() else []
    assert seen == ([] if moves else ["old-1", "old-2"])
    layout.replace_folder(scratch, target)
    assert sorted(path.name for path in target.iterdir()) == ["new-1", "new-2"]
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


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
