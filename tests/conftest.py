"""What all tests share: a home of their own for Airflow, the settings file, and the real data set.

No test is skipped, on any machine: what needs more than Python has a marker, and a target of the Makefile.
"""

import gc
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.collection import longest_first, names_its_markers

ROOT = Path(__file__).resolve().parents[1]
DEBIAN = {
    "docker-registry": "Debian's package of that name has it",
    "jq": "Debian's package jq has it",
    "kubectl": "Debian's package kubernetes-client has it",
    "promtool": "Debian's package prometheus has it",
    "curl": "Debian's package of that name has it",
    "haproxy": "Debian's package haproxy has it",
    "openssl": "Debian's package of that name has it",
    "node": "Debian's package nodejs has it, `make test-tools` needs npm too",
}

# Before scikit-learn is imported: its threads wait for each other by spinning, which a busy machine punishes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before anything imports Airflow: its home is made at import, and must not be the developer's.
_HOME = tempfile.mkdtemp(prefix="attrition-tests-")
os.environ["AIRFLOW_HOME"] = f"{_HOME}/airflow"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(ROOT / "dags")
os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(ROOT / "plugins")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
# The embedded stack's settings. Signatures are not required: tests that are about them say so.
_SETTINGS = (ROOT / "config" / "embedded.toml").read_text().replace("[signing]", "[signing]\nrequired = false\n", 1)
Path(_HOME, "settings.toml").write_text(_SETTINGS)
os.environ["LIFECYCLE_SETTINGS"] = f"{_HOME}/settings.toml"
# What is trained once for all tests (tests/support/bundles.py). Workers of xdist have their parent's.
os.environ.setdefault("TESTS_SHARED", f"{_HOME}/shared")
os.environ.setdefault("LIFECYCLE_HOME", f"{_HOME}/home")
os.environ.setdefault("LIFECYCLE_AIRFLOW_PORT", "8080")
os.environ.setdefault("LIFECYCLE_MLFLOW_PORT", "5050")
for _keys in ("APPROVAL", "BUNDLE", "IMAGE"):
    os.environ.setdefault(f"LIFECYCLE_{_keys}_KEYS", "[]")
# What tests/support/guardian.py knows by who outlives a session that was killed. Setproctitle would write over the
# environment that it is found in.
os.environ["LIFECYCLE_TEST_SESSION"] = _HOME
os.environ["SPT_NOENV"] = "1"


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A session that is killed leaves no server behind."""
    if not importlib.util.find_spec("psutil"):  # the Spark environment has none, and starts no servers
        yield
        return
    from tests.support.guardian import guarded

    with guarded(_HOME, tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The IBM HR data set, which stands beside attrition's definition."""
    return ROOT / "use_cases" / "attrition" / "data" / "emp_attrition.csv"


@pytest.fixture(scope="module", autouse=True)
def what_mlflow_sets_stays_in_its_module() -> Iterator[None]:
    """MLflow's addresses are the process's, so a module must not leave its own to the next one.

    Nor the path: the code of a model that MLflow has loaded stands first in it, with a part of our packages.
    """
    path = list(sys.path)
    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    yield
    if mlflow := sys.modules.get("mlflow"):
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.update(before)
    sys.path[:] = path


def pytest_configure() -> None:
    """Hypothesis tries the same examples each time: what a change did not break does not fail by luck."""
    from hypothesis import settings

    settings.load_profile("ci")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What the tests' modules import stays: the garbage collector has no need to look through it again and again.

    The first worker compiles it for all of them, also where the environment forbids Python to keep bytecode.
    """
    gc.disable()
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    try:
        return (yield)
    finally:
        sys.dont_write_bytecode = kept
        gc.freeze()
        gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    names_its_markers(item)


@pytest.hookimpl(trylast=True)  # what was not selected is left out by then
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    longest_first(items)


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


def pytest_runtest_setup(item):
    """A test with ``@pytest.mark.tools("name")`` fails at once, with what to install, where the program is missing."""
    for program in (name for mark in item.iter_markers("tools") for name in mark.args):
        if not shutil.which(program):
            pytest.fail(f"{program} is not installed: {DEBIAN[program]}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A skipped test has failed: what looks whole has to be whole."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and no test may be: {report.longrepr}"
    return report
