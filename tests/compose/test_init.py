"""Secrets: new for every stack, each only where it is needed, in files that nobody else may read."""

import csv
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import msgspec
import pytest
import yaml

import use_cases
from compose import health, init, start
from training.use_case import UseCase, load


@pytest.fixture(autouse=True)
def not_root(monkeypatch):
    """Files stay ours: giving them away is for root."""
    monkeypatch.setattr(os, "chown", lambda *_: None)


def new_secrets(*slugs):
    return init.with_use_cases(init.make_secrets(), slugs or ("first", "second"))


def test_make_secrets_makes_other_ones_every_time():
    first, second = new_secrets(), new_secrets()
    for name in first.__struct_fields__:
        if name != "airflow_user":
            assert getattr(first, name) != getattr(second, name), name


def test_load_or_make_keeps_what_it_made(tmp_path):
    made = init.load_or_make(tmp_path, ["first"])
    assert init.load_or_make(tmp_path, ["first"]) == made
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_new_use_case_gets_keys_and_ports_and_changes_those_of_no_other(tmp_path):
    before = init.load_or_make(tmp_path, ["second"])
    after = init.load_or_make(tmp_path, ["first", "second"])
    assert msgspec.structs.replace(after, api_keys=before.api_keys, release_keys=before.release_keys) == before
    assert after.release_keys["second"] == before.release_keys["second"]
    assert after.api_keys["second"] == before.api_keys["second"]
    ports = {slug: [init.node_port(after, slug, target) for target in init.TARGETS] for slug in ("first", "second")}
    assert ports == {"second": [30090, 30091], "first": [30092, 30093]}
    assert init.load_or_make(tmp_path, ["second"]) == after, "a use case that is gone keeps its ports, and its keys"


def test_stack_that_was_made_before_approvals_were_signed_gets_a_key_pair_and_keeps_it(tmp_path):
    init.load_or_make(tmp_path, ["first"])
    file = tmp_path / "secrets.json"
    earlier = {name: value for name, value in json.loads(file.read_text()).items() if name != "approval_keys"}
    file.write_text(json.dumps(earlier))
    made = init.load_or_make(tmp_path, ["first"])
    assert init.load_or_make(tmp_path, ["first"]) == made


def test_rotated_key_pair_signs_from_now_on_and_the_earlier_one_still_checks(tmp_path):
    (tmp_path / "secrets").mkdir()
    before = init.load_or_make(tmp_path / "secrets", ["first"])
    init.rotate(init.ROTATED["rotate-approval-key"], tmp_path)
    after = init.load_or_make(tmp_path / "secrets", ["first"])
    assert msgspec.structs.replace(after, approval_keys=before.approval_keys) == before
    assert after.approval_keys.public[0].id == before.approval_keys.public[0].id
    assert after.approval_keys.private not in before.approval_keys.connection()


def test_rotated_signing_keys_sign_from_now_on_and_the_earlier_ones_still_check(tmp_path):
    (tmp_path / "secrets").mkdir()
    before = init.load_or_make(tmp_path / "secrets", ["first"])
    init.rotate(init.ROTATED["rotate-signing-keys"], tmp_path)
    after = init.load_or_make(tmp_path / "secrets", ["first"])
    for was, now in ((before.bundle_signing, after.bundle_signing), (before.image_signing, after.image_signing)):
        assert now.private != was.private
        assert now.public[:-1] == was.public
        assert now.public[-1].signer == was.public[0].signer
    assert after.approval_keys == before.approval_keys


def test_more_use_cases_than_ports_are_refused_with_their_names():
    names = [f"number-{number}" for number in range(10)]
    assert len(new_secrets(*names).api_keys) == 10
    with pytest.raises(SystemExit, match=r"11 use cases \(.*one-too-many\) need 22 ports.*publishes 20"):
        new_secrets(*names, "one-too-many")


def test_files_give_each_service_only_its_own_secrets():
    made = new_secrets()
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
        made.approval_keys.private: {"approval/environment.json"},
        made.bundle_signing.private: {"minilake/bundle-signing.pem"},
        made.image_signing.private: {"approval/image-signing.pem"},
        **{
            key: {f"cluster/{slug}-{target}/api-key"}
            for slug, keys in made.release_keys.items()
            for target, key in keys.items()
        },
        **{key: set() for keys in made.api_keys.values() for key in keys.values()},
    }
    assert len(allowed) == 19
    for secret, places in allowed.items():
        assert {name for name, text in content.items() if secret in text} == places


def test_files_give_the_scoring_server_a_hash_that_fits_the_key():
    import hashlib

    made = new_secrets()
    hashed = json.loads(init.files(made)["cluster/first-staging/api-keys.json"][1])
    keys = {"administrator": made.api_keys["first"]["staging"], "release": made.release_keys["first"]["staging"]}
    assert hashed == {client: hashlib.sha256(key.encode()).hexdigest() for client, key in keys.items()}


def test_secrets_of_an_earlier_release_get_the_releases_keys_and_keep_the_others(tmp_path):
    made = init.load_or_make(tmp_path, ["first"])
    (tmp_path / "secrets.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(made, release_keys={})))
    again = init.load_or_make(tmp_path, ["first"])
    assert again.api_keys == made.api_keys
    assert again.release_keys["first"].keys() == set(init.TARGETS)


def test_files_of_other_images_belong_to_their_users():
    owners = {name: owner for name, (owner, _) in init.files(new_secrets()).items()}
    assert owners["postgres/airflow"] == 999
    assert owners["storage/accounts"] == 0
    assert owners["airflow/environment.json"] == 10001


def use_case_of(tmp_path, monkeypatch, name, **differing):
    """A use case like attrition under another name, whose folder is below ``tmp_path``."""
    folder = tmp_path / "definitions" / name
    folder.mkdir(parents=True)
    monkeypatch.setattr(UseCase, "folder", property(lambda self: tmp_path / "definitions" / self.name))
    return msgspec.structs.replace(load("attrition"), name=name, model=name, title=name, **differing)


def test_prepare_gives_a_use_case_its_own_data_once(tmp_path, monkeypatch):
    use_case = use_case_of(tmp_path, monkeypatch, "own_data", data="rows.csv")
    (use_case.folder / "rows.csv").write_text("a,b\n1,2\n")
    root = tmp_path / "made"
    for name in ("secrets", "data", "kube", "logs", "minilake-data", "mlflow-data"):
        (root / name).mkdir(parents=True)
    init.prepare([use_case], root)
    assert (root / "data" / "own_data.csv").read_text() == "a,b\n1,2\n"
    assert (root / "data" / "outcomes" / "own_data").is_dir()
    assert (root / "data" / "bronze" / "own_data").is_dir()
    assert (root / "cluster" / "own-data-production" / "node-port").read_text() == "30090"
    (root / "data" / "own_data.csv").write_text("somebody's own\n")
    init.prepare([use_case], root)
    assert (root / "data" / "own_data.csv").read_text() == "somebody's own\n"
    assert [path.name for path in (root / "data").iterdir() if path.is_file()] == ["own_data.csv"]


def test_cluster_is_told_what_the_settings_say_about_each_target(tmp_path, monkeypatch):
    text = (Path(init.__file__).parents[1] / "config" / "compose.toml").read_text()
    file = tmp_path / "settings.toml"
    file.write_text(f"{text}\n[use_cases.attrition.production]\nnamespace = 'hr-models'\n")
    monkeypatch.setenv("LIFECYCLE_SETTINGS", str(file))
    for name in init.public_keys(init.make_secrets()):
        monkeypatch.setenv(name, "")  # `init` has no environment file: it makes what is in it
    monkeypatch.setattr(init.settings, "load", init.settings.load.__wrapped__)
    found = init.of_the_cluster([load("attrition")], init.make_secrets())
    assert found["attrition-production/namespace"] == "hr-models"
    assert found["attrition-staging/namespace"] == "attrition-staging"
    assert found["attrition-staging/repository"] == "attrition-scoring"
    assert found["attrition-staging/kubectl-image"].startswith("registry.k8s.io/kubectl:")


def test_use_case_without_data_gets_synthetic_rows(tmp_path):
    use_case = msgspec.structs.replace(load("attrition"), data="")
    init.put_data(use_case, tmp_path)
    with (tmp_path / "attrition.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == init.ROWS
    assert {use_case.label.field, *(field.name for field in use_case.fields)} <= set(rows[0])


def test_show_names_each_address_and_key(tmp_path, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_AIRFLOW_PORT", "8123")
    monkeypatch.setenv("LIFECYCLE_SCORING_PORTS", "9000-9019")
    (tmp_path / "secrets").mkdir()
    use_cases = [use_case_of(tmp_path, monkeypatch, name) for name in ("first", "second_one")]
    shown = init.show(use_cases, tmp_path).splitlines()
    made = init.load_or_make(tmp_path / "secrets", ["first", "second-one"])
    assert shown[0].split() == ["Airflow", "http://127.0.0.1:8123", "admin", "/", made.airflow_password]
    expected = [
        [slug, target, f"http://127.0.0.1:{port}", "X-API-Key:", made.api_keys[slug][target]]
        for slug, target, port in (
            ("first", "production", 9000), ("first", "staging", 9001),
            ("second-one", "production", 9002), ("second-one", "staging", 9003),
        )
    ]  # fmt: skip
    assert [line.split() for line in shown[1:]] == expected


def test_definition_that_does_not_hold_is_named_and_costs_the_others_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "use_cases" / "broken").mkdir(parents=True)
    (tmp_path / "use_cases" / "broken" / "__init__.py").write_text("raise RuntimeError('half written')\n")
    monkeypatch.setattr(use_cases, "__path__", [*use_cases.__path__, str(tmp_path / "use_cases")])
    monkeypatch.setattr(init.show, "__defaults__", (tmp_path,))
    (tmp_path / "secrets").mkdir()
    init.main(["show"])
    shown = capsys.readouterr()
    assert "left out: use_cases/broken does not import" in shown.err
    assert "attrition production" in shown.out


def run_start(*command, **variables):
    return subprocess.run(
        [sys.executable, "-m", "compose.start", *command], env={**os.environ, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_start_adds_the_secrets_and_leaves_given_variables_alone(tmp_path):
    file = tmp_path / "environment.json"
    file.write_text(json.dumps({"ADDED": "by init", "GIVEN": "by init"}))
    second = tmp_path / "second.json"
    second.write_text(json.dumps({"SIGNS": "by init"}))
    files = f"{file}{os.pathsep}{second}"
    shown = run_start("env", **{start.VARIABLE: files, "GIVEN": "by the owner"}).stdout.splitlines()
    assert {"ADDED=by init", "SIGNS=by init"} <= set(shown)
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


def test_proxy_of_docker_stands_before_no_service_of_the_stack(monkeypatch):
    services = yaml.safe_load((Path(init.__file__).parents[1] / "docker-compose.yaml").read_text())["services"]
    called = {name for name in services if name not in ("init", "migrate", "cluster", "log-export")}
    assert called - {"scheduler", "dag-processor", "triggerer"} == set(start.OWN)
    monkeypatch.setattr(start.sys, "argv", ["start", "env"])
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", "intranet.example.com,mlflow")
    monkeypatch.delenv("LIFECYCLE_SECRETS", raising=False)
    found = {}
    monkeypatch.setattr(start.os, "execvpe", lambda name, command, environment: found.update(environment))
    start.main()
    monkeypatch.setattr(start.os, "environ", found)
    for name in start.OWN:
        assert urllib.request.proxy_bypass_environment(f"{name}:5000", urllib.request.getproxies_environment())
    assert not urllib.request.proxy_bypass_environment("elsewhere.example.com", urllib.request.getproxies_environment())
    assert found["NO_PROXY"].split(",").count("mlflow") == 1
    assert found["NO_PROXY"].startswith("intranet.example.com,")
