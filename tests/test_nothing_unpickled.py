"""Nothing is unpickled on the way of a model from training to an answer: neither by our code, nor out of a bundle."""

import pickle
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.support import unpickled
from tests.support.bundles import make_bundle

ROOT = Path(__file__).resolve().parents[1]
RAILS = (
    "compose", "dags", "delivery", "embedded", "infrastructure", "k8s", "monitoring", "plugins", "serving", "training",
    "use_cases",
)  # fmt: skip
WITHIN_ONE_JOB = "training/search/executor.py"
"""Sends work to the executors of the job's own Spark session and takes their answers, all in memory: neither comes
from a file, a registry or another job."""


def test_no_code_on_the_way_unpickles():
    listed = subprocess.run(["git", "ls-files", *RAILS], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [name for name in listed.splitlines() if name.endswith(".py")]
    assert len(files) > 200
    found = {name: said for name in files if (said := unpickled.in_code((ROOT / name).read_text()))}
    assert found.keys() == {WITHIN_ONE_JOB}


def test_one_exception_reads_no_file_and_no_registry():
    text = (ROOT / WITHIN_ONE_JOB).read_text()
    assert [word for word in ("open(", "read_bytes", "download", "mlflow") if word in text] == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "def f():\n    import joblib as j",
        "from pyspark import cloudpickle",
        "import pyspark.cloudpickle",
        "from torch import load",
        "import pandas as pd\npd.read_pickle('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=given)",
        "import importlib\nimportlib.import_module('dill')",
        "import mlflow\nmlflow.sklearn.load_model('models:/x/1')",
        "mlflow.pyfunc.log_model(serialization_format='cloudpickle')",
    ],
)
def test_what_is_planted_in_code_is_found(planted):
    assert unpickled.in_code(planted)


def test_harmless_code_is_left_alone():
    text = (
        "import json, numpy as np\nnp.load('x', allow_pickle=False)\npickled = 'pickle'\nmlflow.pyfunc.load_model('x')"
    )
    assert unpickled.in_code(text) == []


def test_bundle_holds_no_pickle(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", seed=1)
    assert {path.suffix for path in bundle.iterdir()} == {".json", ".npz", ".onnx"}
    assert unpickled.in_files(bundle) == []


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_in_a_bundle_is_found_whatever_it_is_called(tmp_path, protocol):
    bundle = make_bundle(tmp_path / "bundle", seed=1)
    (bundle / "contract.json").write_bytes(pickle.dumps({"a": 1}, protocol))
    with zipfile.ZipFile(bundle / "weights.bin", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps([1], protocol))
    np.savez(bundle / "drift.npz", plain=np.arange(3), objects=np.array([{}], dtype=object))
    assert unpickled.in_files(bundle) == ["contract.json", "drift.npz!objects.npy", "weights.bin!data.pkl"]
