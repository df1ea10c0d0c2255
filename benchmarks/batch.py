"""``make bench-batch``: the batch scoring beside the ways that people know, in one run.

    python -m benchmarks.batch [--rows 100000 1000000] [--systems ...] [--spark PYTHON]

Same table (Parquet), same model, same processors, same outputs: probability and outlier flag of each row, written as
Parquet. Each run is a process of its own, so that its peak memory is its own; the clock runs from the first row that
is read to the last one that is written, with models, libraries and Spark's session already there. Every system has to
give the same sum of probabilities and the same number of outliers.

Writes ``benchmarks/results/batch.json`` and the table of ``benchmarks/batch.md``.
"""

import argparse
import json
import multiprocessing
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import dataset, parquet

from training.use_case import UseCase, load

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "benchmarks" / "batch.md", ROOT / "benchmarks" / "results" / "batch.json"
OURS, PYFUNC, UDF = "this project", "registered pyfunc by chunks", "mlflow.pyfunc.spark_udf"
SKLEARN, FLOOR = "mlflow.sklearn by chunks", "floor: bare ONNX sessions on encoded chunks"
CHUNK = 65_536
DISTINCT = 50_000
"""Made-up rows that differ; larger tables repeat them."""
SEED = 1
_RSS_PER_MIB = 2**20 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
Answer = tuple[float, int]
"""Sum of the probabilities, number of outliers."""
Run = Callable[[], Callable[[], Answer]]
"""What is measured. It returns how to read back what it has written, which is not."""


# --- the models and the tables, made once ---


def make_models(name: str, folder: Path) -> None:
    """One fitted ensemble as bundle, as MLflow's pyfunc and as MLflow's scikit-learn model."""
    import mlflow

    from benchmarks.batch_estimator import Scorer
    from serving.scoring.contract import read_contract
    from training.data.dataset import read_table
    from training.data.synthetic import make_rows
    from training.export.bundle import write_bundle
    from training.export.outliers import Outliers
    from training.registry.register import signature
    from training.search.ensemble import Member, StackedEnsemble
    from training.search.space import space_of

    use_case = load(name)
    make_rows(use_case, 1470, SEED).to_parquet(folder / "training.parquet", index=False)
    data, space = read_table(use_case, str(folder / "training.parquet")), space_of(use_case)
    members = [Member(one, 1 / len(space.starting_points)) for one in space.starting_points]
    ensemble = StackedEnsemble(space, members, 0.0, SEED).fit(data.x, data.y)
    outliers = Outliers(SEED).fit(data.x)
    bundle = folder / "bundle"
    write_bundle(bundle, use_case.model_name, ensemble, outliers, data)
    contract = read_contract(bundle)
    mlflow.pyfunc.save_model(
        str(folder / PYFUNC),
        python_model=str(ROOT / "training" / "registry" / "pyfunc_model.py"),
        artifacts={"bundle": str(bundle)},
        pip_requirements=["mlflow"],
        signature=signature(contract),
    )
    mlflow.sklearn.save_model(
        Scorer(ensemble, outliers, contract),
        str(folder / SKLEARN),
        pip_requirements=["mlflow"],
        serialization_format="cloudpickle",
    )


def make_table(name: str, folder: Path, rows: int) -> None:
    """``in.parquet``, and its encoded chunks for the floor."""
    from serving.scoring.contract import read_contract
    from serving.scoring.encode import encode_columns
    from training.data.synthetic import make_rows

    use_case = load(name)
    frame = make_rows(use_case, min(rows, DISTINCT), SEED + 1).drop(columns=[use_case.label.field])
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with parquet.ParquetWriter(folder / "in.parquet", table.schema) as writer:
        for first in range(0, rows, len(table)):
            writer.write_table(table.slice(0, rows - first))
    columns = {str(name): frame[name].to_numpy(object) for name in frame}
    x = encode_columns(columns, read_contract(folder / "bundle"))
    np.save(folder / "encoded.npy", np.resize(x, (rows, x.shape[1])))


def _apart(make: Callable[..., None], *given: Any) -> None:
    """Run it in a process of its own: on Linux the peak memory of a process counts in that of those it starts."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(make, *given).result()


# --- the systems: each loads what it needs, and returns what is measured ---


def load_ours(use_case: UseCase, folder: Path, work: Path) -> Run:
    from training.batch.run import score_table
    from training.batch.score import Pinned

    def run() -> Callable[[], Answer]:
        day = date(2026, 11, 2)
        score_table(use_case, folder / "bundle", Pinned("1", "sha256:0"), str(folder / "in.parquet"), work, day)
        return lambda: _written(work / "scores", "prediction", "is_outlier")

    return run


def load_by_chunks(use_case: UseCase, folder: Path, work: Path, name: str) -> Run:
    """What a notebook does that does not want the whole table in memory."""
    import mlflow

    loaded: Any = mlflow.pyfunc if name == PYFUNC else mlflow.sklearn
    model = loaded.load_model(str(folder / name))

    def run() -> Callable[[], Answer]:
        schema = pa.schema([("probability", pa.float64()), ("is_outlier", pa.bool_())])
        with parquet.ParquetWriter(work / "out.parquet", schema, compression="zstd") as writer:
            for batch in dataset.dataset(folder / "in.parquet").to_batches(batch_size=CHUNK, batch_readahead=1):
                found = model.predict(batch.to_pandas())
                columns = ["classifier__predictions", "outliers__is_outlier"]
                writer.write_table(pa.table([pa.array(found[one]) for one in columns], schema=schema))
        return lambda: _written(work / "out.parquet", "probability", "is_outlier")

    return run


def load_udf(use_case: UseCase, folder: Path, work: Path) -> Run:
    import mlflow
    from pyspark.sql import SparkSession, functions

    settings = {
        "spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1",
        "spark.log.level": "ERROR",
    }  # fmt: skip
    cores = f"local[{os.cpu_count()}]"
    session = SparkSession.builder.master(cores).config(map=settings).getOrCreate()
    kind = "classifier__predictions double, outliers__is_outlier boolean"
    score = mlflow.pyfunc.spark_udf(session, str(folder / PYFUNC), result_type=kind, env_manager="local")

    def run() -> Callable[[], Answer]:
        table = session.read.parquet(str(folder / "in.parquet"))
        # As many tasks as processors; a Parquet file of this size would be one.
        spread = table.repartition(os.cpu_count() or 1)
        # As one struct its columns are found by name; given one by one, they would be taken in the signature's order.
        answer = spread.select(score(functions.struct(*spread.columns)).alias("answer")).select("answer.*")
        answer.write.mode("overwrite").option("compression", "zstd").parquet(str(work / "out"))
        return lambda: _written(work / "out", "classifier__predictions", "outliers__is_outlier")

    return run


def load_floor(use_case: UseCase, folder: Path, work: Path) -> Run:
    from serving.scoring.bundle import Bundle

    bundle = Bundle.load(folder / "bundle")
    encoded = np.load(folder / "encoded.npy", mmap_mode="r")

    def score(chunk: slice) -> Answer:
        x = np.asarray(encoded[chunk])
        return float(bundle.probabilities(x).sum()), int((bundle.outlier_scores(x) > 0).sum())

    def run() -> Callable[[], Answer]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(score, _chunks(len(encoded))))
        return lambda: (sum(one for one, _ in found), sum(one for _, one in found))

    return run


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(first, first + CHUNK) for first in range(0, rows, CHUNK))


def _written(place: Path, probability: str, outlier: str) -> Answer:
    table = dataset.dataset(place).to_table(columns=[probability, outlier])
    return float(table[probability].to_numpy().sum()), int(table[outlier].to_numpy().sum())


SYSTEMS: dict[str, Callable[[UseCase, Path, Path], Run]] = {
    OURS: load_ours,
    PYFUNC: partial(load_by_chunks, name=PYFUNC),
    UDF: load_udf,
    SKLEARN: partial(load_by_chunks, name=SKLEARN),
    FLOOR: load_floor,
}


# --- one run in a process of its own ---


def _child(use_case: UseCase, system: str, folder: Path, work: Path) -> None:
    run = SYSTEMS[system](use_case, folder, work)
    started, before = time.perf_counter(), _cpu_s()
    read_back = run()
    found: dict[str, float | None] = {
        "wall_s": round(time.perf_counter() - started, 2),
        "cpu_s": None,
        "peak_mib": None,
    }
    if system != UDF:  # whose work is done by other processes than this one
        # Far below wall_s times the processors where other programs took part of the machine.
        found["cpu_s"] = round(_cpu_s() - before, 2)
        found["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RSS_PER_MIB)
    probabilities, outliers = read_back()
    print(json.dumps({**found, "probabilities": probabilities, "outliers": outliers}))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(system: str, folder: Path, rows: int, use_case: str, spark: Path) -> dict[str, Any]:
    """Run one system on ``folder / "in.parquet"``."""
    python, environ = Path(sys.executable), dict(os.environ)
    if system == UDF:
        # Spark's environment has no MLflow: its own packages come first, and MLflow from the one beside it.
        python = spark
        beside = [_packages(spark), _packages(Path(sys.executable))]
        environ |= {"PYTHONPATH": os.pathsep.join([str(ROOT), *beside]), "PYSPARK_PYTHON": str(spark)}
    with tempfile.TemporaryDirectory(dir=folder) as work:
        command = [str(python), "-m", "benchmarks.batch", "--child", system, "--use-case", use_case]
        command += ["--folder", str(folder), "--work", work]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, cwd=ROOT, env=environ)
    found = json.loads(done.stdout.splitlines()[-1])
    print(system, rows, found, flush=True)
    return {"system": system, "rows": rows, "rows_per_s": round(rows / found["wall_s"]), **found}


def _packages(python: Path) -> str:
    ask = "import site; print(site.getsitepackages()[0])"
    return subprocess.run([str(python), "-c", ask], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()


def check_same(results: list[dict[str, Any]]) -> None:
    """Raise ``RuntimeError`` where systems that scored the same table give other answers."""
    first = results[0]
    for one in results:
        near = np.isclose(one["probabilities"], first["probabilities"], rtol=1e-6)
        if not near or one["outliers"] != first["outliers"]:
            raise RuntimeError(f"{one['system']} gives another answer than {first['system']}: {one}, {first}")


# --- what is kept ---


def write(results: list[dict[str, Any]]) -> None:
    """Put results in the place of older ones of the same system and size, and write the page's table again."""
    kept = [
        {key: one[key] for key in ("system", "rows", "rows_per_s", "wall_s", "cpu_s", "peak_mib")} for one in results
    ]
    new = {(one["system"], one["rows"]) for one in kept}
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    kept += [one for one in known if (one["system"], one["rows"]) not in new]
    order = list(SYSTEMS)
    kept.sort(key=lambda one: (one["rows"], order.index(one["system"])))
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    floors = {one["rows"]: one["rows_per_s"] for one in kept if one["system"] == FLOOR}
    lines = [
        "| rows | system | rows/s | of the floor | wall s | CPU s | peak MiB |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in kept:
        share = f"{one['rows_per_s'] / floors[one['rows']]:.0%}" if one["rows"] in floors else ""
        used = [f"{one[key]:,}" if one[key] is not None else "not measured" for key in ("cpu_s", "peak_mib")]
        cells = [f"{one['rows']:,}", one["system"], f"{one['rows_per_s']:,}", share, str(one["wall_s"]), *used]
        lines.append(f"| {' | '.join(cells)} |")
    block = "\n".join(["<!-- table -->", *lines, "<!-- end of table -->"])
    PAGE.write_text(
        re.sub(r"<!-- table -->.*<!-- end of table -->", lambda _: block, PAGE.read_text(), flags=re.DOTALL)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--spark", type=Path, default=ROOT / ".venv-spark" / "bin" / "python")
    parser.add_argument("--use-case", default="attrition")
    parser.add_argument("--child", choices=list(SYSTEMS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    use_case = load(chosen.use_case)
    if chosen.child:
        _child(use_case, chosen.child, chosen.folder, chosen.work)
        return
    systems = chosen.systems
    if UDF in systems and not (chosen.spark.exists() and shutil.which("java")):
        print(f"{UDF} is not measured: it needs Java and {chosen.spark} (make test-spark makes it)", flush=True)
        systems = [one for one in systems if one != UDF]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _apart(make_models, use_case.name, folder)
        for rows in chosen.rows:
            _apart(make_table, use_case.name, folder, rows)
            results = [measure(one, folder, rows, use_case.name, chosen.spark) for one in systems]
            check_same(results)
            write(results)


if __name__ == "__main__":
    main()
