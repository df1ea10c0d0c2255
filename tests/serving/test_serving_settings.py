"""Settings come from SCORING_ variables alone, and wrong ones are named."""

import os
import socket
from pathlib import Path

import pytest
import yaml

from serving.cpu import cpu_limit
from serving.settings import Release, SettingsError, read_release, read_settings
from serving.system import usable_cpus

TENANT = "9c0f1d2e-0a1b-4c3d-8e5f-0123456789ab"
ENTRA = {"SCORING_AUTH": "entra", "SCORING_API_KEYS_FILE": "/keys.json", "SCORING_ENTRA_AUDIENCE": "api://scoring"}


@pytest.mark.parametrize(
    "given", ["example.onmicrosoft.com", "common", TENANT.upper(), TENANT[:-1], f"{{{TENANT}}}", f"{TENANT}\n", "../x"]
)
def test_tenant_is_what_tokens_name(given: str) -> None:
    """The server started, asked another address for its keys, and refused every token without saying why."""
    assert read_settings({**ENTRA, "SCORING_ENTRA_TENANT": TENANT}).entra_tenant == TENANT
    with pytest.raises(
        SettingsError, match=r"SCORING_ENTRA_TENANT is '.*': give the tenant's id as .* a GUID"
    ) as found:
        read_settings({**ENTRA, "SCORING_ENTRA_TENANT": given})
    assert repr(given) in str(found.value)


def test_defaults_suit_the_image_and_keys_are_needed() -> None:
    settings = read_settings({"SCORING_API_KEYS_FILE": "/keys.json", "HOME": "/"})
    assert (settings.bundle, settings.auth, settings.max_body) == ("/app/bundle", "keys", 5 * 1024 * 1024)
    assert settings.binds == ["0.0.0.0:8080", "0.0.0.0:8081"]
    assert settings.metrics_port == "8081"


def test_authentication_off_binds_to_loopback_unless_told_otherwise() -> None:
    assert read_settings({"SCORING_AUTH": "off"}).binds == ["127.0.0.1:8080", "127.0.0.1:8081"]
    told = {"SCORING_AUTH": "off", "SCORING_BIND": "fd://5, 127.0.0.1:9000"}
    assert read_settings(told).binds == ["fd://5", "127.0.0.1:9000"]
    assert read_settings(told).metrics_port == ""


def test_metrics_have_an_address_of_their_own() -> None:
    settings = read_settings({"SCORING_AUTH": "off", "SCORING_BIND": "[::1]:80", "SCORING_METRICS_BIND": "[::1]:81"})
    assert (settings.binds, settings.metrics_port) == (["[::1]:80", "[::1]:81"], "81")
    with socket.create_server(("127.0.0.1", 0)) as handed_over:
        address = f"fd://{handed_over.fileno()}"
        settings = read_settings({"SCORING_AUTH": "off", "SCORING_METRICS_BIND": address})
        assert settings.metrics_port == str(handed_over.getsockname()[1])


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "SCORING_API_KEYS_FILE is not set"),
        ({"SCORING_AUTH": "maybe"}, r"SCORING_\* variable is wrong: Invalid enum value 'maybe' - at `\$.auth`"),
        ({"SCORING_AUTH": "off", "SCORING_THREADS": "0"}, r"at `\$.threads`"),
        ({"SCORING_AUTH": "off", "SCORING_MAXBODY": "9"}, "SCORING_MAXBODY is not a setting"),
        ({"SCORING_AUTH": "off", "SCORING_LOG_SENSITIVE": "hash"}, "needs a secret in SCORING_LOG_HASH_KEY"),
        ({**ENTRA, "SCORING_ENTRA_TENANT": ""}, "needs the tenant's id in SCORING_ENTRA_TENANT"),
    ],
    ids=["no-keys", "wrong-word", "too-small", "unknown", "hash-without-secret", "no-tenant"],
)
def test_wrong_settings_are_refused_by_name(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_settings(variables)


def test_release_is_read_and_a_missing_one_is_version_0(tmp_path: Path) -> None:
    assert read_release(tmp_path / "none.json", "m") == Release(model_name="m", model_version="0")
    path = tmp_path / "release.json"
    path.write_text('{"model_name": "m", "model_version": "7", "revision": "abc", "later": 1}')
    assert read_release(path, "m").model_version == "7"
    path.write_text("{")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_release(path, "m")


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_cpu_limit_follows_the_cgroup(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    usable = usable_cpus()
    assert cpu_limit(tmp_path) == (usable if limit is None else min(limit, usable))


def test_system_without_affinity_masks_counts_the_cpus_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert usable_cpus() == 12


def test_manifest_waits_before_sigterm_and_gives_the_whole_drain_time() -> None:
    manifest = Path(__file__).resolve().parents[2] / "k8s" / "base" / "deployment.yaml"
    documents = yaml.safe_load_all(manifest.read_text())
    pod = next(one for one in documents if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    scoring = next(container for container in pod["containers"] if "readinessProbe" in container)
    program, wait = scoring["lifecycle"]["preStop"]["exec"]["command"]
    settings = read_settings({"SCORING_AUTH": "off"})
    assert program == "sleep"
    # Endpoints follow a pod's end within some seconds; only then may it refuse connections.
    assert float(wait) >= 2 * scoring["readinessProbe"]["periodSeconds"]
    ending = float(wait) + settings.drain_seconds + settings.graceful_timeout
    assert pod["terminationGracePeriodSeconds"] > ending


def test_idle_connections_outlive_those_of_the_proxy_in_front() -> None:
    """nginx, which our Ingress is for, keeps them for 60 s; whoever closes first loses no request."""
    assert read_settings({"SCORING_AUTH": "off"}).keepalive > 60
