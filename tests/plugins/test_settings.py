"""The settings file: every shipped one is valid, a wrong one is refused by name."""

from pathlib import Path

import pytest

from lifecycle import settings

CONFIG = Path(__file__).resolve().parents[2] / "config"


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
        ("environment = 'x'\nairflow_url = 'a'\nmlflow_url = 'm'\ncolour = 'red'", "colour"),
        (
            "environment = 'x'\nairflow_url = 'a'\nmlflow_url = 'm'\n[training]\ntrials = 'many'",
            r"\$\.training\.trials",
        ),
        ("environment = 'x'\nairflow_url = 'a'\nmlflow_url = 'm'\n[training]\ncompute = 'gpu'", "gpu"),
        ("environment = ", "settings.toml"),
    ],
    ids=["required missing", "unknown key", "wrong type", "unknown choice", "not TOML"],
)
def test_wrong_file_is_refused_with_file_and_field(tmp_path, text, message):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(settings.SettingsError, match=message) as caught:
        settings.read(path)
    assert str(path) in str(caught.value)


def test_variables_are_expanded_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_AIRFLOW_PORT", "9999")
    monkeypatch.setenv("LIFECYCLE_MLFLOW_PORT", "9998")
    assert settings.read(CONFIG / "embedded.toml").airflow_url == "http://127.0.0.1:9999"
