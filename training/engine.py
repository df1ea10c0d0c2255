"""Where fits run: on Spark when there is one, else in local processes. The answers are the same.

The search itself stays in the driver (``training.tune``); an engine only maps a pure function over tasks
and returns the answers in the tasks' order, so an engine cannot change which trials a seed gives.
"""

import contextlib
import importlib.util
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any, Protocol, TypeVar

Task = TypeVar("Task")
Answer = TypeVar("Answer")

ENGINE_VARIABLE = "ATTRITION_ENGINE"
"""``spark`` or ``local`` overrules what is found."""


class Engine(Protocol):
    """Maps ``function(data, task)`` over tasks; ``data`` is sent to the workers once."""

    name: str

    def map(self, function: Callable[[Any, Task], Answer], tasks: Sequence[Task]) -> list[Answer]: ...


@contextlib.contextmanager
def open_engine(data: Any, processes: int) -> Iterator[Engine]:
    """The engine of this machine: Spark on Databricks, else ``processes`` local processes."""
    chosen = os.environ.get(ENGINE_VARIABLE) or (
        "spark" if "DATABRICKS_RUNTIME_VERSION" in os.environ and _has_spark() else "local"
    )
    if chosen == "spark":
        yield SparkEngine(data)
    elif chosen == "local":
        with LocalEngine(data, processes) as engine:
            yield engine
    else:
        raise ValueError(f"{ENGINE_VARIABLE} is {chosen!r}: use spark or local, or leave it unset")


def _has_spark() -> bool:
    return importlib.util.find_spec("pyspark") is not None


class LocalEngine:
    """A pool of processes. They end when this process ends, however it ends."""

    name = "local"

    def __init__(self, data: Any, processes: int) -> None:
        # A fork server is single-threaded, so forking from it is safe whatever threads MLflow has started here.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["scipy.stats", "sklearn.ensemble", "sklearn.linear_model"])
        self._pool = ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=(data,))

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

    def __init__(self, data: Any) -> None:
        from pyspark.sql import SparkSession

        self._spark = SparkSession.builder.getOrCreate()
        self._data = data

    def map(self, function: Callable[[Any, Task], Answer], tasks: Sequence[Task]) -> list[Answer]:
        import pandas as pd
        from pyspark import cloudpickle

        import serving
        import training

        # By value, as the executors need not have this code on their path.
        for package in (training, serving):
            cloudpickle.register_pickle_by_value(package)
        work = cloudpickle.dumps((function, self._data))

        def run(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            applied, data = pickle.loads(work)  # noqa: S301  (made above, by this job)
            for batch in batches:
                answers = [pickle.dumps(applied(data, pickle.loads(task))) for task in batch["task"]]  # noqa: S301
                yield pd.DataFrame({"position": batch["position"], "answer": answers})

        table = self._spark.createDataFrame(
            [(position, bytearray(cloudpickle.dumps(task))) for position, task in enumerate(tasks)],
            "position long, task binary",
        )
        rows = table.repartition(len(tasks), "position").mapInPandas(run, "position long, answer binary").collect()
        answers = {row["position"]: pickle.loads(bytes(row["answer"])) for row in rows}  # noqa: S301
        return [answers[position] for position in range(len(tasks))]
