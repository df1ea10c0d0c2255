"""Of two use cases with one name in the settings, the later one has no DAGs, and is told why."""

import pytest

from lifecycle import settings
from lifecycle.use_cases import load_all
from tests.support.airflow import make_settings
from tests.support.definitions import define
from tests.support.every_use_case import found_in
from training.use_case import load

SHARED = {
    "model_name": "ml.one.model",
    "experiment": "/Shared/one",
    "repository": "scoring",
    "staging.namespace": "scoring",
    "production.namespace": "scoring",
}


@pytest.fixture
def two(tmp_path):
    """Two more use cases with servers, and their folder."""
    for name in ("zebras", "zoos"):
        define(tmp_path, name)
    with found_in(tmp_path):
        yield tmp_path


def loaded(monkeypatch, **tables):
    """Names of those that may have DAGs, and the texts of the others' faults."""
    found = make_settings(**tables)
    monkeypatch.setattr(settings, "load", lambda: found)
    use_cases, faults = load_all()
    return {use_case.name for use_case in use_cases}, [str(fault) for fault in faults]


@pytest.mark.parametrize("setting", SHARED)
def test_name_of_two_use_cases_costs_the_later_one_its_dags_and_names_both_folders(two, monkeypatch, setting):
    value, (outer, _, inner) = SHARED[setting], setting.partition(".")

    def said(text):
        return {outer: {inner: text} if inner else text}

    names, (fault,) = loaded(monkeypatch, use_cases={"zebras": said(value), "zoos": said(value.upper())})
    assert {"attrition", "zebras"} <= names
    assert "zoos" not in names
    assert fault == (
        f"{two}/zoos has the {setting} of {two}/zebras in the settings, {value.upper()!r}: change it in "
        "[use_cases.zoos], or write {use_case} into it in [every_use_case]. Until then it has no DAGs"
    )


def test_text_for_every_use_case_without_their_name_leaves_one_of_them(two, monkeypatch):
    names, faults = loaded(monkeypatch, every_use_case={"model_name": "ml.prod.model"})
    assert names == {"attrition"}
    assert all(f"has the model_name of {load('attrition').folder} in the settings" in fault for fault in faults)
    assert any(fault.startswith(f"{two}/zoos ") for fault in faults)
    names, faults = loaded(monkeypatch, every_use_case={"model_name": "ml.{use_case}.model"})
    assert ({"attrition", "zebras", "zoos"} <= names, faults) == (True, [])


def test_use_case_without_a_server_needs_no_image_or_namespace_of_its_own(two, monkeypatch):
    define(two, "zzz", online=False)
    names, faults = loaded(monkeypatch, use_cases={"zebras": {"repository": "r"}, "zzz": {"repository": "r"}})
    assert ({"zebras", "zzz"} <= names, faults) == (True, [])
