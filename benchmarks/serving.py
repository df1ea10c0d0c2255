"""``make bench-serving``: the scoring server, an empty route, other model servers and the naive way, in one run.

    python -m benchmarks.serving [--data FILE] [--seconds 1.5] [--rounds 9]

In the shape that is deployed: one worker on one CPU, to which the server is pinned; the client has another one. Same
payloads, same machine, same threads. Short rounds of the systems alternate, so that a slow minute of the machine hits
all of them; a row is the median of its rounds, and a share the median of those of each round. BentoML takes part where
it is installed beside. Writes ``benchmarks/results/serving.json`` and the table of ``benchmarks/serving.md``.
"""

import argparse
import functools
import hashlib
import http.client
import importlib.util
import json
import os
import pickle
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import psutil

from benchmarks.http_load import Measured, http_request, measure
from benchmarks.procedure import train
from serving.scoring.contract import Contract, read_contract
from serving.scoring.encode import encode_columns
from serving.system import memory_folder
from training.data.dataset import Dataset, read_table
from training.export.bundle import as_records, write_bundle
from training.export.outliers import Outliers
from training.registry.register import signature
from training.search.models import STARTING_POINTS
from training.use_case import load

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "benchmarks" / "serving.md", ROOT / "benchmarks" / "results" / "serving.json"
OURS, CEILING, NAIVE = "this project", "empty Flask route", "Flask + pandas + scikit-learn + SciPy"
MLFLOW = "mlflow models serve"
BENTOML = "BentoML"
EXPLAINED = "this project, with reasons"
SLOW = (NAIVE, MLFLOW, BENTOML)
"""Ten to a hundred times slower: one round says it."""
SIZES, CONNECTIONS = (1, 10, 100, 1000), (1, 8)
DISTINCT = 48
"""Different payloads of each size, sent in turn."""
THREADS = 8
SEED = 1
KEY = "benchmark"
_ENVELOPES = {MLFLOW: b"dataframe_records", BENTOML: b"records"}
"""Who wants the list of records in a member of an object, and in which."""


class FrameEncoder:
    """What a data frame of requests becomes before the models see it."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    def __call__(self, frame: Any) -> Any:
        return encode_columns({name: frame[name].to_numpy(object) for name in frame.columns}, self.contract)


@dataclass
class System:
    """How to start one of them, and to ask it. ``PORT`` in its arguments stands for the port."""

    name: str
    arguments: list[str]
    environ: dict[str, str]
    path: str = "/predict"
    ready: str = "/readyz"

    def request(self, records: bytes, answer_size: int = 0) -> bytes:
        """The HTTP message that asks for records (a JSON list); ``answer_size``: what the empty route answers."""
        path = f"{self.path}?bytes={answer_size}" if self.name == CEILING else self.path
        body = b'{"%b":%b}' % (_ENVELOPES[self.name], records) if self.name in _ENVELOPES else records
        return http_request(path, body, {"X-API-Key": KEY})


def cpus() -> tuple[set[int], set[int]]:
    """The CPU of the server, and that of the client; empty where processes cannot be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, {others[-1]} if others else {first}


def pin(chosen: set[int]) -> None:
    """Keep this process, and those that it starts, to these CPUs."""
    if chosen:
        os.sched_setaffinity(0, chosen)


def prepare(folder: Path, employees: Dataset) -> Contract:
    """Train the models once, as the training job does, and write them as bundle and as pickle."""
    classifier = train(employees, trials=len(STARTING_POINTS), seed=SEED)
    print(f"classifier: {', '.join(member.parameters['family'] for member in classifier.members)}", file=sys.stderr)
    outliers = Outliers(SEED).fit(employees.x)
    write_bundle(folder / "bundle", "employee_attrition", classifier, outliers, employees, holdout=employees)
    contract = read_contract(folder / "bundle")
    parts = {
        "classifier": classifier,
        "outliers": outliers,
        "reference": employees.frame,
        "fields": [(field.name, field.kind) for field in contract.drift_fields],
        "encode": FrameEncoder(contract),
    }
    mlflow.pyfunc.save_model(
        folder / "registered",
        python_model=str(ROOT / "training" / "registry" / "pyfunc_model.py"),
        artifacts={"bundle": str(folder / "bundle")},
        signature=signature(contract),
    )
    (folder / "models.pickle").write_bytes(pickle.dumps(parts))
    (folder / "keys.json").write_text(json.dumps({"benchmark": hashlib.sha256(KEY.encode()).hexdigest()}))
    return contract


def systems(folder: Path) -> list[System]:
    """All of them, with the same worker settings where they have them."""
    gunicorn = [sys.executable, "-m", "gunicorn", "--preload", "-k", "gthread", "-w", "1", "--threads", str(THREADS)]
    gunicorn += ["--keep-alive", "75", "--no-control-socket", "--log-level", "warning", "--bind", "127.0.0.1:PORT"]
    if folder_in_memory := memory_folder():
        gunicorn += ["--worker-tmp-dir", folder_in_memory]
    ours = {
        "SCORING_BUNDLE": str(folder / "bundle"),
        "SCORING_API_KEYS_FILE": str(folder / "keys.json"),
        "SCORING_WORKERS": "1",
        "SCORING_THREADS": str(THREADS),
        "SCORING_MAX_REQUESTS": "0",
        "SCORING_RELEASE": str(folder / "release.json"),
        "SCORING_STOP_FILE": str(folder / "stop.json"),  # which is not there, as in a pod that scores
    }
    found = [
        System(CEILING, [*gunicorn, "benchmarks.serving_rivals:ceiling()"], {}),
        System(
            OURS, [sys.executable, "-m", "gunicorn", "-c", "python:serving.gunicorn_config", "serving.wsgi:app"], ours
        ),
        System(
            EXPLAINED,
            [sys.executable, "-m", "gunicorn", "-c", "python:serving.gunicorn_config", "serving.wsgi:app"],
            ours,
            path="/predict?explain=true",
        ),
        System(
            MLFLOW,
            [
                sys.executable,
                "-m",
                "mlflow",
                "models",
                "serve",
                "--model-uri",
                str(folder / "registered"),
                "--env-manager",
                "local",
                "--workers",
                "1",
                "--port",
                "PORT",
            ],
            {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"},
            path="/invocations",
            ready="/ping",
        ),
        System(NAIVE, [*gunicorn, f"benchmarks.serving_rivals:naive({str(folder / 'models.pickle')!r})"], {}),
    ]
    if has_bentoml():
        service = [sys.executable, "-m", "bentoml", "serve", "benchmarks.serving_bentoml:Scoring"]
        service += ["--host", "127.0.0.1", "--port", "PORT"]
        environ = {"BENCHMARK_MODEL": str(folder / "registered"), "BENTOML_DO_NOT_TRACK": "True"}
        found.append(System(BENTOML, service, environ))
    return found


def has_bentoml() -> bool:
    """Whether BentoML can take part."""
    return importlib.util.find_spec("bentoml") is not None


@contextmanager
def running(system: System, folder: Path, cpu: set[int]) -> Iterator[tuple[int, float, psutil.Process]]:
    """Port, seconds until the first answer, and the master process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = os.environ | system.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ["PATH"]])  # MLflow looks for uvicorn
    environ["SCORING_BIND"] = f"127.0.0.1:{port}"
    arguments = [argument.replace("PORT", str(port)) for argument in system.arguments]
    # Logs go through a pipe that is read, as a container runtime reads them.
    began = time.perf_counter()
    process = subprocess.Popen(
        arguments,
        env=environ,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=functools.partial(pin, cpu),
    )
    reader = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
    try:
        yield port, _first_answer(port, system.ready, began, process), psutil.Process(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
        reader.terminate()
        reader.wait()


def _first_answer(port: int, path: str, began: float, process: subprocess.Popen[bytes]) -> float:
    while process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return time.perf_counter() - began
        except OSError:
            time.sleep(0.005)
        finally:
            connection.close()
    raise SystemExit("a server of the benchmark ended at its start")


def memory_mib(master: psutil.Process) -> float:
    """Memory of master and worker: what they share counts once."""
    processes = [master, *master.children(recursive=True)]
    return sum(process.memory_full_info().pss for process in processes) / 2**20


def ask(port: int, message: bytes) -> bytes:
    """The body of the answer to one request."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(message)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        content = answer.read()
    if answer.status != 200:
        raise SystemExit(f"a server of the benchmark answered {answer.status}: {content[:500]!r}")
    return content


def payloads(employees: Dataset) -> dict[int, list[bytes]]:
    """For each size, different requests of real records with their keys, so that answers have every member."""
    random = np.random.default_rng(0)
    name = str(employees.use_case.key)

    def request(size: int) -> bytes:
        rows = random.integers(0, len(employees.frame), size)
        keys = employees.frame[name].iloc[rows].astype(int).tolist()
        records = [record | {name: key} for record, key in zip(as_records(employees, rows), keys, strict=True)]
        return json.dumps(records, separators=(",", ":")).encode()

    return {size: [request(size) for _ in range(DISTINCT)] for size in SIZES}


def run(folder: Path, employees: Dataset, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """All measurements: one row for each system, size and number of connections."""
    bodies = payloads(employees)
    answer_sizes: dict[int, int] = {}
    rows: dict[tuple[str, int, int], list[Measured]] = {}
    starts: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    order = systems(folder)
    server_cpu, client_cpu = cpus()
    pin(client_cpu)
    ours = order[1]
    with running(ours, folder, server_cpu) as (port, _, _):
        answers = {size: ask(port, ours.request(bodies[size][0])) for size in SIZES}
        answer_sizes = {size: len(answer) for size, answer in answers.items()}
    for round_ in range(rounds):
        for system in order:
            if system.name in SLOW and round_:
                continue
            print(f"round {round_ + 1}: {system.name}", file=sys.stderr, flush=True)
            with running(system, folder, server_cpu) as (port, start, master):
                starts.setdefault(system.name, []).append(start)
                if system.name in SLOW:
                    check_equal(json.loads(answers[10]), json.loads(ask(port, system.request(bodies[10][0]))))
                for size in SIZES:
                    messages = [system.request(body, answer_sizes[size]) for body in bodies[size]]
                    # Every payload once before: what may be remembered is, as in a server that has run a while.
                    measure(port, messages, 1, 0, at_least=4 if system.name in SLOW else DISTINCT)
                    for connections in CONNECTIONS:
                        result = measure(port, messages, connections, seconds, at_least=8)
                        rows.setdefault((system.name, size, connections), []).append(result)
                memory[system.name] = memory_mib(master)
    return [summary(key, found, rows, starts, memory) for key, found in rows.items()]


def check_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """All ways must give the same answer, otherwise nothing is compared. MLflow's has one object for each record."""
    if "predictions" in theirs:
        theirs = {key: [row[key] for row in theirs["predictions"]] for key in theirs["predictions"][0]}
    for key in ("classifier__predictions", "outliers__score"):
        np.testing.assert_allclose(ours[key], theirs[key], atol=1e-5)
    for name, p in theirs.get("drift__p_value", {}).items():
        np.testing.assert_allclose(ours["drift__p_value"][name], p, atol=1e-9)


def summary(
    key: tuple[str, int, int],
    found: list[Measured],
    rows: dict[tuple[str, int, int], list[Measured]],
    starts: dict[str, list[float]],
    memory: dict[str, float],
) -> dict[str, Any]:
    """One row of the results: the medians of the rounds."""
    system, records, connections = key

    def percentile(share: float) -> float:
        return statistics.median(measured.percentile_ms(share) for measured in found)

    # A round of its own each: what slows a minute of the machine is in both.
    pairs = list(zip(found, rows[CEILING, records, connections], strict=False))
    return {
        "system": system,
        "records": records,
        "connections": connections,
        "requests_per_s": round(statistics.median(measured.requests_per_s for measured in found), 1),
        "p50_ms": round(percentile(0.5), 3),
        "p95_ms": round(percentile(0.95), 3),
        "p99_ms": round(percentile(0.99), 3),
        "p99_to_p50": round(statistics.median(measured.tail for measured in found), 2),
        "share_of_ceiling": round(statistics.median(own.requests_per_s / top.requests_per_s for own, top in pairs), 3),
        "tail_to_ceiling": round(statistics.median(own.tail / top.tail for own, top in pairs), 2),
        "start_s": round(statistics.median(starts[system]), 2),
        "memory_mib": round(memory[system], 1),
    }


def table(results: list[dict[str, Any]]) -> str:
    """The results as a Markdown table, and who is missing in it."""
    columns = list(results[0])
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    ordered = sorted(results, key=lambda row: (row["connections"], row["records"], -row["requests_per_s"]))
    lines += [f"| {' | '.join(str(row[column]) for column in columns)} |" for row in ordered]
    if BENTOML not in {row["system"] for row in results}:
        lines += ["", "BentoML was not installed where this was measured."]
    return "\n".join(lines)


def write(results: list[dict[str, Any]]) -> None:
    """Write the JSON file, and replace the table of the page."""
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    block = f"<!-- table -->\n{table(results)}\n<!-- end of table -->"
    page = PAGE.read_text() if PAGE.exists() else "# Serving\n\n<!-- table -->\n<!-- end of table -->\n"
    PAGE.write_text(re.sub(r"<!-- table -->.*<!-- end of table -->", lambda _: block, page, flags=re.DOTALL))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="training data (default: the use case's own file)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        use_case = load("attrition")
        employees = read_table(use_case, str(arguments.data or use_case.folder / use_case.data))
        prepare(Path(name), employees)
        results = run(Path(name), employees, arguments.seconds, arguments.rounds)
    write(results)
    print(table(results))


if __name__ == "__main__":
    from benchmarks.serving import main as named_main  # so that what is pickled has an importable name

    named_main()
