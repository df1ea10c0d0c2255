"""What all tests share: a home of their own for Airflow, the settings file, and the real data set."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Before scikit-learn is imported: its threads wait for each other by spinning, which a busy machine punishes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before anything imports Airflow: its home is made at import, and must not be the developer's.
_HOME = tempfile.mkdtemp(prefix="attrition-tests-")
os.environ["AIRFLOW_HOME"] = f"{_HOME}/airflow"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(ROOT / "dags")
os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(ROOT / "plugins")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["LIFECYCLE_SETTINGS"] = str(ROOT / "config" / "embedded.toml")
os.environ.setdefault("LIFECYCLE_HOME", f"{_HOME}/home")
os.environ.setdefault("LIFECYCLE_AIRFLOW_PORT", "8080")
os.environ.setdefault("LIFECYCLE_MLFLOW_PORT", "5050")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The IBM HR data set: ``LIFECYCLE_TEST_DATA``, or the copy beside the definition."""
    path = Path(os.environ.get("LIFECYCLE_TEST_DATA", ROOT / "use_cases" / "attrition" / "data" / "emp_attrition.csv"))
    if not path.is_file():
        pytest.skip(f"the IBM HR data set is not at {path}: name it with LIFECYCLE_TEST_DATA")
    return path


@pytest.fixture(scope="module", autouse=True)
def mlflow_addresses_stay_in_their_module() -> Iterator[None]:
    """MLflow's addresses are the process's, so a module must not leave its own to the next one."""
    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    yield
    if mlflow := sys.modules.get("mlflow"):
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(before)


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A skip is a failure where ``LIFECYCLE_SKIPS_FAIL`` is set, as in CI: there everything can be run."""
    report = yield
    if report.skipped and os.environ.get("LIFECYCLE_SKIPS_FAIL"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and LIFECYCLE_SKIPS_FAIL allows none: {report.longrepr}"
    return report
