"""DAG files make the same DAGs for every use case, quickly; a definition that does not hold costs no other its DAGs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.definitions import define
from tests.support.names import KINDS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "dags").glob("*.py"))
HEAVY = {"mlflow", "numpy", "pandas", "pyarrow", "scipy", "sklearn"}
PARSE_SECONDS = 1.0
"""Of the processor's time, for a file whose use cases are ten and more; Airflow itself is loaded before."""

PARSE = """
import json, os, runpy, sys, time
from airflow.sdk import DAG
from airflow.sdk.definitions._internal.contextmanager import DagContext
import airflow.providers.cncf.kubernetes.operators.pod, airflow.providers.databricks.operators.databricks
DagContext.current_autoregister_module_name = "__main__"
for file in sys.argv[1:]:
    if child := os.fork():  # a process for each file, as Airflow's own
        os.waitpid(child, 0)
        continue
    began = time.process_time()
    runpy.run_path(file)
    seconds = time.process_time() - began
    dags = sorted(dag.dag_id for dag, _ in DagContext.autoregistered_dags)
    print(json.dumps({"file": file, "seconds": seconds, "dags": dags, "modules": sorted(sys.modules)}), flush=True)
    os._exit(0)
"""
BAG = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag("dags", collect_dags=True)
dags = {
    dag.dag_id: {
        "owner": dag.owner,
        "tags": sorted(dag.tags),
        "doc": dag.doc_md,
        "assets": sorted({asset.name for task in dag.tasks for asset in task.outlets}),
        "use_cases": sorted(
            {task.use_case for task in dag.tasks if hasattr(task, "use_case")}
            | {str(name) for task in dag.tasks for name in getattr(task, "op_args", ())[:1]}
        ),
    }
    for dag in bag.dags.values()
}
json.dump({"dags": dags, "errors": bag.import_errors}, sys.stderr)
"""


def python(program, folder, *arguments):
    environment = {**os.environ, "USE_CASES": str(folder), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def parsed(tmp_path_factory):
    """What parsing each file takes and brings with ten more use cases, by the file's name."""
    folder = tmp_path_factory.mktemp("ten")
    for number in range(10):
        define(folder, f"case_{number}")
    lines = python(PARSE, folder, *map(str, FILES)).stdout.splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return {Path(one["file"]).stem: one for one in found}


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_file_with_ten_use_cases_is_parsed_within_a_second_without_heavy_modules(parsed, name):
    found = parsed[name]
    made = {f"case_{number}_{name}" for number in range(10)} if name in KINDS else set()
    assert {dag_id for dag_id in found["dags"] if dag_id.startswith("case_")} == made
    assert found["seconds"] < PARSE_SECONDS
    assert not HEAVY & {module.partition(".")[0] for module in found["modules"]}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """What Airflow finds with two sound definitions, one of them without a server, and three that do not hold."""
    folder = tmp_path_factory.mktemp("mixed")
    define(folder, "churn", owner="sales", key=None)
    define(folder, "quiet", online=False)
    define(folder, "twin", title="churn service")
    define(folder, "wrong", key="nobody")
    (folder / "broken").mkdir()
    (folder / "broken" / "__init__.py").write_text("import a_module_that_is_not_there\n")
    return json.loads(python(BAG, folder).stderr.rpartition("\n")[2])


def test_every_sound_definition_has_its_dags(mixed):
    own = {name for name in mixed["dags"] if name.startswith(("churn_", "quiet_"))}
    without_a_server = {f"quiet_{kind}" for kind in ("train", "release", "rollback", "score", "arrivals")}
    assert own == {f"churn_{kind}" for kind in KINDS} | without_a_server
    assert {f"attrition_{kind}" for kind in KINDS} < set(mixed["dags"])


def test_dags_of_a_use_case_carry_its_owner_tags_assets_and_name_alone(mixed):
    expected = {
        "train": ("training", ["churn_model_version"]),
        "release": ("release", ["churn_production"]),
        "rollback": ("release", ["churn_production"]),
        "retrain_nightly": ("retraining", []),
        "stop": ("release", []),
        "resume": ("release", []),
        "score": ("scoring", ["churn_scores"]),
        "arrivals": ("arrivals", []),
    }
    for kind, (tag, assets) in expected.items():
        dag = mixed["dags"][f"churn_{kind}"]
        assert (dag["owner"], dag["tags"], dag["assets"]) == ("sales", sorted(["churn", tag]), assets)
        assert dag["use_cases"] == ["churn"]
        assert "attrition" not in dag["doc"].lower()
        assert "$" not in dag["doc"]


def test_runbook_names_the_dags_of_the_use_case_and_what_it_cannot_do(mixed):
    release = " ".join(mixed["dags"]["churn_release"]["doc"].split())
    assert "`churn_train` updates the asset `churn_model_version`" in release
    assert "no outcome can be joined" in mixed["dags"]["churn_retrain_nightly"]["doc"]
    assert "joined by `EmployeeNumber`" in mixed["dags"]["attrition_retrain_nightly"]["doc"]


def test_definitions_that_do_not_hold_are_one_import_error_that_names_each(mixed):
    ((file, error),) = mixed["errors"].items()
    assert file.endswith("broken_use_cases.py")
    for part in (
        "use_cases/broken does not import: ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
        "/mixed0/twin has the title of ",
        "/mixed0/churn, 'churn service', by which log lines are found: give it another title. Until then it has no",
        "use case 'wrong' contradicts itself: the key nobody is not a field",
    ):
        assert part in error
