"""Secrets: new for every stack, each only where it is needed, in files that nobody else may read."""

import json
import os
import subprocess
import sys

import pytest

from compose import health, init, start


def test_make_secrets_makes_other_ones_every_time():
    first, second = init.make_secrets(), init.make_secrets()
    for name in first.__struct_fields__:
        if name != "airflow_user":
            assert getattr(first, name) != getattr(second, name), name


def test_load_or_make_keeps_what_it_made(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "chown", lambda *_: None)
    made = init.load_or_make(tmp_path)
    assert init.load_or_make(tmp_path) == made
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_files_give_each_service_only_its_own_secrets():
    made = init.make_secrets()
    content = {name: text for name, (_, text) in init.files(made).items()}
    allowed = {
        made.postgres_password: {"postgres/postgres"},
        made.airflow_database_password: {"postgres/airflow", "airflow/environment.json"},
        made.mlflow_database_password: {"postgres/mlflow", "mlflow/environment.json"},
        made.airflow_password: {"airflow/environment.json", "airflow/passwords.json"},
        made.minilake_token: {"airflow/environment.json", "minilake/environment.json"},
        made.storage_key: {"airflow/environment.json", "storage/accounts"},
        made.fernet_key: {"airflow/environment.json"},
        made.jwt_secret: {"airflow/environment.json"},
        made.api_keys["staging"]: {"cluster/staging/api-key"},
        made.api_keys["production"]: {"cluster/production/api-key"},
    }
    for secret, places in allowed.items():
        assert {name for name, text in content.items() if secret in text} == places


def test_files_give_the_scoring_server_a_hash_that_fits_the_key():
    import hashlib

    made = init.make_secrets()
    hashed = json.loads(init.files(made)["cluster/staging/api-keys.json"][1])
    assert hashed == {"administrator": hashlib.sha256(made.api_keys["staging"].encode()).hexdigest()}


def test_files_of_other_images_belong_to_their_users():
    owners = {name: owner for name, (owner, _) in init.files(init.make_secrets()).items()}
    assert owners["postgres/airflow"] == 999
    assert owners["storage/accounts"] == 0
    assert owners["airflow/environment.json"] == 10001


def test_show_names_address_and_keys(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "chown", lambda *_: None)
    monkeypatch.setenv("LIFECYCLE_AIRFLOW_PORT", "8123")
    (tmp_path / "secrets").mkdir()
    made = init.load_or_make(tmp_path / "secrets")
    shown = init.show(tmp_path)
    assert "http://127.0.0.1:8123" in shown
    assert made.airflow_password in shown
    assert made.api_keys["production"] in shown


def run_start(*command, **variables):
    return subprocess.run(
        [sys.executable, "-m", "compose.start", *command], env={**os.environ, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_start_adds_the_secrets_and_leaves_given_variables_alone(tmp_path):
    file = tmp_path / "environment.json"
    file.write_text(json.dumps({"ADDED": "by init", "GIVEN": "by init"}))
    shown = run_start("env", **{start.VARIABLE: str(file), "GIVEN": "by the owner"}).stdout.splitlines()
    assert "ADDED=by init" in shown
    assert "GIVEN=by the owner" in shown


@pytest.mark.parametrize(
    ("command", "variables", "message"),
    [((), {}, "nothing to start"), (("true",), {start.VARIABLE: "/nowhere.json"}, "/nowhere.json")],
    ids=["no command", "no secrets"],
)
def test_start_says_what_is_missing(command, variables, message):
    done = run_start(*command, **variables)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(("status", "healthy"), [("healthy", True), ("unhealthy", False)])
def test_health_of_a_component_is_what_the_api_server_says(tmp_path, monkeypatch, status, healthy):
    answer = tmp_path / "health.json"
    answer.write_text(json.dumps({"scheduler": {"status": status}}))
    monkeypatch.setattr(health, "_COMPONENTS", answer.as_uri())
    assert health.is_healthy("scheduler") is healthy
