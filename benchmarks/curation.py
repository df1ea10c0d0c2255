"""How fast and how small the curation is, beside plain pandas: ``make bench-curation``.

Both turn the same exported log lines into one row per scored record. Each run is a process of its own, so
that its peak memory is its own. Lines are as the server writes them, without the drift figures of the answer
(with them a line pair is about 7 KB, and 10 million lines would not fit on most disks); ``--full`` is with
them. Each result takes the place of an older one of the same system and size in
``benchmarks/results/curation.json``; a run without ``rows_per_s`` was stopped at its memory limit.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from training.use_case import UseCase, load

NIGHT = date(2026, 11, 2)
RESULTS = Path(__file__).parent / "results" / "curation.json"
PANDAS_GIB = 12
"""Address space that pandas gets; it is stopped when that is not enough."""
SYSTEMS = ["this project", "pandas"]
MEMORY = "1GB"


def make_export(use_case: UseCase, folder: Path, lines: int, full: bool) -> int:
    """Write ``lines`` exported lines as five-minute blobs; returns their bytes. 1 % are delivered twice."""
    from training.data.synthetic import make_rows

    rng = random.Random(1)
    rows = make_rows(use_case, 2000, 1).drop(columns=use_case.label.field)
    records = [json.dumps(row, separators=(",", ":")) for row in rows.to_dict("records")]
    drift = {name: {f: 0.123456789 for f in rows.columns} for name in ("p_value", "magnitude", "is_drift")}
    more = "".join(f'"drift__{name}":{json.dumps(values)},' for name, values in drift.items()) if full else ""
    wrap = (
        '{{"TenantId":"0f3c2b7e-6a55","TimeGenerated":"{time}4Z","Computer":"aks-np1-0","ContainerId":"c0ffee{pod}",'
        '"ContainerName":"scoring","PodName":"scoring-7c9d-x{pod}","PodNamespace":"prod","LogSource":"stdout",'
        '"LogLevel":"INFO","LogMessage":{{"service_name":"{title}","type":"{kind}",'
        '"request_id":"{request}","timestamp":"{time}Z","model_name":"{model}","model_version":"3",'
        '"client":"hr-portal","chunk":1,"chunks":1,"first_record":0,"data":{data}}},"Type":"ContainerLogV2"}}\n'
    )
    service = {"title": use_case.title, "model": use_case.model_name}
    start = datetime(NIGHT.year, NIGHT.month, NIGHT.day, tzinfo=UTC)
    pairs, blobs, total = lines // 2, 288, 0
    for blob in range(blobs):
        moment = start + timedelta(minutes=5 * blob)
        path = folder / f"WorkspaceResourceId=/w/y={moment:%Y}/m={moment:%m}/d={moment:%d}/h={moment:%H}/m={moment:%M}"
        path.mkdir(parents=True)
        with (path / "PT05M.json").open("w") as file:
            first, last = pairs * blob // blobs, pairs * (blob + 1) // blobs
            for number in range(first, last):
                time_text = f"{moment:%Y-%m-%dT%H:%M}:{rng.randrange(60):02d}.{rng.randrange(1000):03d}"
                values = {**service, "time": time_text, "pod": number % 4, "request": f"{number:032x}"}
                asked = wrap.format(kind="InputData", data=f"[{records[number % 2000]}]", **values)
                answer = (
                    f'{{"classifier__predictions":[{rng.random():.6f}],{more}"outliers__is_outlier":[false],'
                    f'"outliers__score":[{rng.uniform(-0.3, 0):.6f}]}}'
                )
                text = asked + wrap.format(kind="OutputData", data=answer, **values)
                total += file.write(text)
                if number % 100 == 0:
                    total += file.write(asked)
    return total


def run_ours(use_case: UseCase, folder: Path, work: Path) -> int:
    """Copy, read and curate with this project; returns the rows of table ``inference``."""
    from training.inference_log import day_tables, landing, layout, parse
    from training.inference_log.azure_export import FolderSource
    from training.inference_log.sql_engine import open_engine

    _lap("imported")
    engine = open_engine(use_case, work / "spill", MEMORY, 2)
    landing.land(FolderSource(folder), work, NIGHT, NIGHT, NIGHT)
    _lap("landed")
    parse.stage(engine, work, NIGHT, use_case)
    _lap("staged")
    day_tables.rebuild(engine, work, NIGHT, use_case)
    _lap("curated")
    engine.view("result", [layout.day_folder(work, "inference", NIGHT)], {"record": "INT"})
    return int(engine.query("SELECT COUNT(*) AS n FROM result")[0]["n"])


def run_pandas(use_case: UseCase, folder: Path, work: Path) -> int:
    """The same result as a data scientist would write it: a loop over lines, then data frames."""
    import pandas as pd

    _lap("imported")
    inputs, outputs = [], []
    for path in sorted(folder.rglob("*.json")):
        with path.open() as file:
            for line in file:
                message = json.loads(line)["LogMessage"]
                if not isinstance(message, dict) or message.get("service_name") != use_case.title:
                    continue
                key = {name: message[name] for name in ("request_id", "timestamp", "model_version", "client")}
                if message["type"] == "InputData":
                    inputs += [{**key, "record": n, **r} for n, r in enumerate(message["data"])]
                else:
                    data = message["data"]
                    columns = (data[f] for f in ("classifier__predictions", "outliers__is_outlier", "outliers__score"))
                    outputs += [
                        {"request_id": key["request_id"], "timestamp": key["timestamp"], "record": n,
                         "prediction": p, "is_outlier": flag, "outlier_score": s}
                        for n, (p, flag, s) in enumerate(zip(*columns, strict=True))
                    ]  # fmt: skip
    keys = ["request_id", "timestamp", "record"]
    left = pd.DataFrame(inputs).drop_duplicates(keys)
    right = pd.DataFrame(outputs).drop_duplicates(keys)
    table = left.merge(right, on=keys).sort_values(["timestamp", "request_id", "record"])
    table["timestamp"] = pd.to_datetime(table["timestamp"])
    table.to_parquet(work / "inference.parquet", compression="zstd", index=False)
    return len(table)


_RSS_PER_MIB = 2**20 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
_LAPS: dict[str, float] = {}
_STARTED = time.perf_counter()


def _lap(name: str) -> None:
    _LAPS[name] = round(time.perf_counter() - _STARTED, 1)


def _child(use_case: UseCase, system: str, folder: Path, work: Path) -> None:
    if system == "pandas":
        resource.setrlimit(resource.RLIMIT_AS, (PANDAS_GIB * 2**30,) * 2)
    try:
        rows: int | None = {"this project": run_ours, "pandas": run_pandas}[system](use_case, folder, work)
    except MemoryError:
        rows = None
    wall = time.perf_counter() - _STARTED - _LAPS["imported"]
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"rows": rows, "wall_s": round(wall, 2), "peak_mib": round(used.ru_maxrss / _RSS_PER_MIB), "laps": _LAPS}
    # Far below wall_s times the cores where other programs took part of the machine.
    print(json.dumps({**found, "cpu_s": round(used.ru_utime + used.ru_stime, 2)}))


def measure(use_case: UseCase, system: str, folder: Path, lines: int, suffix: str) -> dict[str, object]:
    """Run one system in a process of its own; ``rows_per_s`` is None when its memory did not suffice."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        command = [sys.executable, "-m", "benchmarks.curation", "--child", system]
        command += ["--use-case", use_case.name, "--folder", str(folder), "--work", work]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    finished = found["rows"] is not None
    assert found["rows"] in (None, lines // 2), f"{system} made {found['rows']} rows of {lines} lines"
    print(system, lines, found, flush=True)
    return {
        "system": system + suffix, "lines": lines, "rows_per_s": round(lines / found["wall_s"]) if finished else None,
        "peak_mib": found["peak_mib"], "wall_s": found["wall_s"],
    }  # fmt: skip


def _keep(result: dict[str, object]) -> None:
    """Put a result into the file, in place of an older one of the same system and size."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    place = [result["system"], result["lines"]]
    results = [one for one in known if [one["system"], one["lines"]] != place] + [result]
    results.sort(key=lambda one: ("full" in one["system"], one["lines"], one["system"] != "this project"))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--full", action="store_true", help="lines with the answer's drift figures")
    parser.add_argument("--child", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help="folder for everything that is written")
    parser.add_argument("--use-case", default="attrition")
    chosen = parser.parse_args()
    use_case = load(chosen.use_case)
    if chosen.child:
        _child(use_case, chosen.child, chosen.folder, chosen.work)
        return
    for lines in chosen.lines:
        with tempfile.TemporaryDirectory(dir=chosen.work) as home:
            folder = Path(home) / "export"
            size = make_export(use_case, folder, lines, chosen.full)
            print(f"{lines} lines, {size / 1e6:.0f} MB", flush=True)
            for system in chosen.systems:
                _keep(measure(use_case, system, folder, lines, " (full lines)" if chosen.full else ""))


if __name__ == "__main__":
    main()
