"""Which files of tests are collected, and in which order they begin: those that take long first.

A worker of pytest-xdist takes file by file. Where a file of a minute is among the last ones, the other workers have
nothing left to do meanwhile.
"""

import functools
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
SECONDS = {
    # of `make test`
    "plugins/tasks/test_release.py": 59,
    "training/test_nightly_job.py": 40,
    "use_cases/test_scaffold.py": 38,
    "training/test_job.py": 32,
    "plugins/tasks/test_forecasting.py": 31,
    "training/forecasting/test_forecaster.py": 26,
    "training/test_forecast_job.py": 26,
    "training/inference_log/test_curation.py": 25,
    "plugins/builders/test_acr.py": 23,
    "training/test_other_tables.py": 19,
    "dags/test_use_cases.py": 15,
    "training/export/test_own_features.py": 15,
    "training/search/test_study.py": 15,
    "plugins/release_page/test_release_page.py": 14,
    "use_cases/test_conformance.py": 14,
    "training/export/test_export.py": 12,
    "delivery/test_smoke.py": 10,
    "serving/test_files.py": 10,
    "training/drift/test_verdict.py": 10,
    "training/inference_log/test_properties.py": 10,
    "plugins/operators/test_build_image.py": 9,
    "training/export/test_reasons.py": 9,
    "training/impact/test_preview.py": 9,
    "serving/test_edges.py": 8,
    "serving/test_fuzz.py": 8,
    "training/data/test_dataset.py": 8,
    "training/inference_log/test_columns.py": 8,
    "training/inference_log/test_outcomes.py": 8,
    "use_cases/test_attrition_sample.py": 8,
    "infrastructure/test_checks.py": 7,
    "monitoring/test_kql.py": 7,
    "plugins/operators/test_release_with_a_trial.py": 7,
    "plugins/test_demo_trials.py": 7,
    "training/forecasting/test_features.py": 7,
    "training/forecasting/test_judging.py": 7,
    # of `make test-stack`
    "embedded/test_forecasts_take_over.py": 300,
    "embedded/test_two_use_cases_in_one_stack.py": 240,
    "embedded/test_gate_in_airflow.py": 150,
    "embedded/test_training_survives.py": 140,
    "embedded/test_stack.py": 90,
    "embedded/test_arrivals_in_airflow.py": 80,
    "embedded/test_scoring_host.py": 60,
    "embedded/test_scoring_host_use_cases.py": 40,
    "plugins/evidence/test_lineage.py": 40,
    "plugins/release_page/test_release_page_in_airflow.py": 40,
    "plugins/operators/test_scoring_embedded.py": 30,
    "serving/test_integrate.py": 15,
    "serving/test_gunicorn.py": 20,
    "training/inference_log/test_killed.py": 18,
    "embedded/test_minilake_workspace.py": 15,
    # of `make test-image-env`
    "serving/test_request_head.py": 100,
    "serving/test_spelling.py": 60,
}
"""By file, about; what is not named here has a tenth of a second for each test."""


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests by their files; those of a file keep their order."""
    if gone := [name for name in SECONDS if not (TESTS / name).is_file()]:
        raise pytest.UsageError(f"tests/support/collection.py names files that are not there: {', '.join(gone)}")
    counted = Counter(item.path for item in items)
    known = {TESTS / name: seconds for name, seconds in SECONDS.items()}
    items.sort(key=lambda item: -known.get(item.path, counted[item.path] / 10))


def names_its_markers(item: pytest.Item) -> None:
    """``make test-NAME`` collects the files alone in which ``mark.NAME`` stands: no marker may come from elsewhere."""
    for mark in item.iter_markers():
        if mark.name in _markers() and f"mark.{mark.name}" not in _text(item.path):
            raise pytest.UsageError(
                f"{item.nodeid} has the marker {mark.name}, but pytest.mark.{mark.name} does not stand in its file, "
                f"where `make test-{mark.name}` looks for it: write it there"
            )


@functools.cache
def _text(path: Path) -> str:
    return path.read_text()


@functools.cache
def _markers() -> frozenset[str]:
    """This project's own."""
    options = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    return frozenset(re.split(r"[:(]", line, maxsplit=1)[0] for line in options["markers"])
