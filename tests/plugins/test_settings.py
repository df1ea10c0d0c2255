"""The settings file: every shipped one is valid, a wrong one is refused by name, and each use case gets its own."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from lifecycle import settings
from serving.scoring.contract import Field
from training.drift.limits import Limits
from training.use_case import Binary, UseCase, UseCaseError, load

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"
URLS = "environment = 'x'\nairflow_url = 'a'\nmlflow_url = 'm'\n"
CHURN = UseCase(
    name="customer_churn",
    title="Churn",
    description="Who leaves.",
    owner="sales",
    fields=(Field("age", "integer", "Age", 40, minimum=0, maximum=120),),
    label=Binary("left"),
    purpose="Tests.",
    misuse="Anything else.",
    trials=7,
)


def read(tmp_path, text):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return settings.read(path)


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_settings_file_is_valid_and_named_after_its_environment(path):
    assert settings.read(path).environment == path.stem


def test_missing_file_names_the_variable(tmp_path):
    with pytest.raises(settings.SettingsError, match="LIFECYCLE_SETTINGS"):
        settings.read(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("environment = 'x'", "airflow_url"),
        (f"{URLS}colour = 'red'", "colour"),
        (f"{URLS}[training]\npoll_seconds = 'many'", r"\$\.training\.poll_seconds"),
        (f"{URLS}[training]\ncompute = 'gpu'", "gpu"),
        (f"{URLS}[every_use_case]\ncolour = 'red'", r"\[every_use_case\].*colour"),
        (f"{URLS}[use_cases.churn]\ntrials = 'many'", r"\[use_cases.churn\].*\$\.trials"),
        (f"{URLS}[use_cases.churn.drift]\nnights = 3", r"\[use_cases.churn\].*nights.*\$\.drift"),
        ("environment = ", "settings.toml"),
    ],
    ids=[
        "required missing",
        "unknown key",
        "wrong type",
        "unknown choice",
        "unknown key of all use cases",
        "wrong type of one use case",
        "unknown limit",
        "not TOML",
    ],
)
def test_wrong_file_is_refused_with_file_and_field(tmp_path, text, message):
    with pytest.raises(settings.SettingsError, match=message) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "settings.toml") in str(caught.value)


def test_variables_are_expanded_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_AIRFLOW_PORT", "9999")
    monkeypatch.setenv("LIFECYCLE_MLFLOW_PORT", "9998")
    assert settings.read(CONFIG / "embedded.toml").airflow_url == "http://127.0.0.1:9999"


def test_use_case_that_the_file_does_not_name_gets_what_follows_from_its_definition(tmp_path, monkeypatch):
    monkeypatch.setattr(UseCase, "folder", tmp_path / "churn")
    found = read(tmp_path, URLS).of(CHURN)
    assert (found.model_name, found.experiment, found.trials) == ("customer_churn", "/Shared/customer_churn", 7)
    assert (found.repository, found.data) == ("customer-churn-scoring", "")
    assert found.staging == settings.Target("customer-churn-staging", 1)
    assert found.production == settings.Target("customer-churn-production", 2)
    assert found.drift == Limits()
    with_data = msgspec.structs.replace(CHURN, data="data/rows.csv")
    assert read(tmp_path, URLS).of(with_data).data == str(tmp_path / "churn" / "data/rows.csv")


def test_values_of_every_use_case_carry_the_name_and_those_of_one_count_more(tmp_path):
    text = f"""{URLS}
[every_use_case]
model_name = "ml.models.{{use_case}}"
approvers = ["{{use_case}}-lead", "head"]
drift.pause_days = 3
staging.replicas = 4
[use_cases.customer_churn]
approvers = ["maria"]
staging.namespace = "here"
drift.new_labels = 9
"""
    configured = read(tmp_path, text)
    churn, other = configured.of(CHURN), configured.of("attrition")
    assert (churn.model_name, other.model_name) == ("ml.models.customer_churn", "ml.models.attrition")
    assert (churn.approvers, other.approvers) == (("maria",), ("attrition-lead", "head"))
    assert churn.staging == settings.Target("here", 4)
    assert other.staging == settings.Target("attrition-staging", 4)
    assert (churn.drift, other.drift) == (Limits(pause_days=3, new_labels=9), Limits(pause_days=3))


def test_settings_of_a_use_case_without_a_definition_are_refused_by_name(tmp_path):
    with pytest.raises(UseCaseError, match="there is no use case 'nobody': use one of"):
        read(tmp_path, URLS).of("nobody")


def test_azure_example_asks_the_people_of_attrition_and_leaves_the_requester_out():
    found = settings.read(CONFIG / "azure.toml").of(load("attrition"))
    assert (len(found.approvers), found.requester_may_approve) == (2, False)
    assert found.model_name.count(".") == 2


def test_namespaces_are_printed_as_the_settings_name_them(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text(f"{URLS}[use_cases.attrition.production]\nnamespace = 'hr-models'\n")
    command = [sys.executable, "-m", "lifecycle.settings"]

    def run(*names, path=file):
        variables = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"}
        variables |= {"LIFECYCLE_SETTINGS": str(path)}
        return subprocess.run([*command, *names], env=variables, capture_output=True, text=True, timeout=60, cwd=ROOT)

    done = run("attrition")
    assert done.stdout == "attrition staging attrition-staging\nattrition production hr-models\n", done.stderr
    assert set(done.stdout.splitlines()) <= set(run().stdout.splitlines())
    assert "nothing" in run("nothing").stderr
    assert run(path=tmp_path / "none.toml").stderr.startswith("the settings file")
