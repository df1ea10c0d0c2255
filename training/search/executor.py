"""Where fits run: on Spark when there is one, otherwise in local processes. The answers are the same.

The search itself stays in the driver (``training.search.study``); an engine only maps a pure function over tasks
and returns the answers in the tasks' order, so an engine cannot change which trials a seed gives.
"""

import contextlib
import importlib.util
import multiprocessing
import os
import pickle
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

Task = TypeVar("Task")
Answer = TypeVar("Answer")

ENGINE_VARIABLE = "LIFECYCLE_ENGINE"
"""``spark`` or ``local`` overrules what is found."""


class Engine(Protocol):
    """Maps ``function(data, task)`` over tasks; ``data`` is sent to the workers once."""

    name: str

    def map(self, function: Callable[[Any, Task], Answer], tasks: Sequence[Task]) -> list[Answer]: ...


@contextlib.contextmanager
def open_engine(data: Any, processes: int) -> Iterator[Engine]:
    """The engine of this machine: Spark on Databricks, otherwise ``processes`` local processes."""
    chosen = _chosen()
    if chosen == "spark":
        with tempfile.TemporaryDirectory() as folder:
            yield SparkEngine(data, Path(folder))
    elif chosen == "local":
        with LocalEngine(data, processes) as engine:
            yield engine
    else:
        raise ValueError(f"{ENGINE_VARIABLE} is {chosen!r}: use spark or local, or leave it unset")


def load_early() -> None:
    """Let the local processes' common ancestor import scikit-learn while the caller does other things."""
    if _chosen() == "local":
        _forkserver()
        forkserver.ensure_running()


def _chosen() -> str:
    return os.environ.get(ENGINE_VARIABLE) or (
        "spark" if "DATABRICKS_RUNTIME_VERSION" in os.environ and _has_spark() else "local"
    )


def _forkserver() -> multiprocessing.context.ForkServerContext:
    # A fork server is single-threaded, so forking from it is safe whatever threads MLflow has started here.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["optuna", "scipy.stats", "sklearn.ensemble", "sklearn.linear_model"])
    return context


def _has_spark() -> bool:
    return importlib.util.find_spec("pyspark") is not None


class LocalEngine:
    """A pool of processes. They end when this process ends, however it ends."""

    name = "local"

    def __init__(self, data: Any, processes: int) -> None:
        self._pool = ProcessPoolExecutor(processes, _forkserver(), initializer=_start_worker, initargs=(data,))

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Any, Task], Answer], tasks: Sequence[Task]) -> list[Answer]:
        return list(self._pool.map(_apply, [function] * len(tasks), tasks))


_data: Any = None


def _start_worker(data: Any) -> None:
    global _data
    _data = data
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _apply(function: Callable[[Any, Any], Any], task: Any) -> Any:
    return function(_data, task)


class SparkEngine:
    """One Spark task for each task. Works with classic Spark and with Spark Connect (serverless)."""

    name = "spark"

    def __init__(self, data: Any, folder: Path) -> None:
        """``folder`` keeps the code that executors fetch, for as long as this engine is used."""
        from pyspark.sql import SparkSession

        self._spark = SparkSession.builder.getOrCreate()
        self._data = data
        ship_code(self._spark, folder / "training_code.zip")

    def map(self, function: Callable[[Any, Task], Answer], tasks: Sequence[Task]) -> list[Answer]:
        import pyarrow as pa
        from pyspark import cloudpickle

        work = cloudpickle.dumps((function, self._data))

        def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            applied, data = pickle.loads(work)  # noqa: S301  (made above, by this job)
            for batch in batches:
                rows = batch.to_pydict()
                answers = [pickle.dumps(applied(data, pickle.loads(task))) for task in rows["task"]]  # noqa: S301
                yield pa.RecordBatch.from_pydict({"position": rows["position"], "answer": answers})

        # Arrow and not pandas batches: they work with every version of pandas.
        table = self._spark.createDataFrame(
            [(position, bytearray(cloudpickle.dumps(task))) for position, task in enumerate(tasks)],
            "position long, task binary",
        )
        rows = table.repartition(len(tasks), "position").mapInArrow(run, "position long, answer binary").collect()
        answers = {row["position"]: pickle.loads(bytes(row["answer"])) for row in rows}  # noqa: S301
        return [answers[position] for position in range(len(tasks))]


def ship_code(spark: Any, archive: Path) -> None:
    """Put this package, the scoring library and the use cases on the executors' path."""
    from pyspark.sql.utils import is_remote

    import use_cases

    root = Path(__file__).resolve().parents[2]
    with zipfile.ZipFile(archive, "w") as packed:
        for file in [
            root / "serving" / "__init__.py",
            *root.glob("training/**/*.py"),
            *root.glob("serving/scoring/*.py"),
        ]:
            packed.write(file, file.relative_to(root))
        # Definitions may lie outside the repository (USE_CASES); on the executors they all stand together.
        for folder in map(Path, use_cases.__path__):
            for file in folder.glob("**/*.py"):
                packed.write(file, Path("use_cases") / file.relative_to(folder))
    if is_remote():
        spark.addArtifacts(str(archive), pyfile=True)
    else:
        spark.sparkContext.addPyFile(str(archive))
