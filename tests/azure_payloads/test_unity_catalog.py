"""What the project asks of Unity Catalog through MLflow's client: nothing that it lacks.

MLflow's client is Databricks' own for models. Each function of the rails is called against an HTTP double, and each
request is read into the message of Databricks' interface and written again; a message refuses what it does not know.
That the client itself takes the call is a part of it: for Unity Catalog it refuses stages, orders and some filters.
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import mlflow
import pytest
from airflow.models.connection import Connection
from airflow.sdk import BaseHook
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from mlflow.entities.model_registry import ModelVersion
from mlflow.store._unity_catalog.registry import rest_store

from lifecycle import settings
from lifecycle.hooks import registry
from lifecycle.image_reference import ImageReference
from tests.support.airflow import USE_CASE, make_settings
from tests.support.bundles import make_bundle
from tests.support.http_double import Double, Request, serving
from tests.support.image_names import image
from training.registry import register, tags, versions

MODEL = "ml.attrition.employee_attrition"
IMAGE = ImageReference.parse(image("ab", "registry.example/attrition-scoring"))
MESSAGES = {(method, path): message for message, (path, method) in rest_store._METHOD_TO_INFO.items()}
"""The messages of Databricks' interface, as MLflow has them from it, by method and path."""


def answer(request: Request) -> tuple[int, Any]:
    """What a workspace would: one version, which every alias names."""
    version = {"name": MODEL, "version": "3", "run_id": "r", "status": "READY", "tags": [{"key": "a", "value": "b"}]}
    kind = request.path.rpartition("/")[2]
    if kind == "search":
        return 200, {"model_versions": [version]}
    if "registered-models" in request.path and kind in ("create", "update"):
        return 200, {"registered_model": {"name": MODEL}}
    return 200, {"model_version": version}


@pytest.fixture
def workspace(monkeypatch) -> Iterator[Double]:
    """A double of the workspace behind connection ``mlflow``."""
    for name in [name for name in os.environ if name.startswith(("DATABRICKS_", "ARM_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    before = dict(os.environ)
    with serving(answer) as double:
        place = Connection("mlflow", "databricks", host="127.0.0.1", port=double.port, schema="http", password="token")
        monkeypatch.setattr(BaseHook, "get_connection", staticmethod(lambda conn_id: place))
        monkeypatch.setattr(settings, "load", lambda: make_settings({"model_name": MODEL}))
        registry.client.cache_clear()
        yield double
        registry.client.cache_clear()
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def misfit(request: Request) -> str:
    """Where a request and the message of its path differ; empty where they do not."""
    if (message := MESSAGES.get((request.method, request.path))) is None:
        return f"the interface has no {request.method} {request.path}"
    sent = {**request.query, **(request.body or {})}
    try:
        again = MessageToDict(ParseDict(sent, message()), preserving_proto_field_name=True)
    except ParseError as error:
        return f"{request.path}: {error}"
    return "" if again == sent else f"{request.path}: {sent} comes back as {again}"


def asked(double: Double, doing: Callable[[], object]) -> list[Request]:
    """What is asked of the interface; the client also looks for what kind of workspace it is."""
    return [request for request in double.asked(doing) if request.path.startswith("/api/")]


def version() -> registry.Version:
    return registry.Version(name=MODEL, version="3", run_id="r", tags={})


CALLS = {
    "by alias": lambda: registry.by_alias(USE_CASE, tags.CHAMPION),
    "by number": lambda: registry.resolve(USE_CASE, "3"),
    "by run": lambda: registry.by_training_run(USE_CASE, "r", "key"),
    "tags": lambda: registry.set_tags(version(), {tags.IMAGE: str(IMAGE)}),
    "staging": lambda: registry.mark_staging(USE_CASE, "3"),
    "nothing in staging": lambda: registry.mark_staging(USE_CASE, None),
    "promotion": lambda: registry.promote(USE_CASE, registry.Version(MODEL, "4", "r", {}), IMAGE),
    "beside": lambda: registry.run_beside(USE_CASE, version(), IMAGE),
    "no longer beside": lambda: registry.end_beside(USE_CASE),
    "description": lambda: describe(),
}
"""What the rails do with the registry."""


def describe() -> None:
    tracker: Any = type("Tracker", (), {"client": registry.client()})
    tracker.client.set_tag = lambda *arguments: None  # of the run, which is not the registry's
    register.describe(tracker, type("Run", (), {"info": type("Info", (), {"run_id": "r"})}), version(), "the card")


@pytest.mark.parametrize("call", CALLS)
def test_registry_is_asked_for_what_unity_catalog_knows(workspace, call):
    requests = asked(workspace, CALLS[call])
    assert requests
    assert [found for request in requests if (found := misfit(request))] == []
    assert {sent.get("name", MODEL) for request in requests for sent in (request.query, request.body or {})} == {MODEL}


def test_calls_are_all_that_the_rails_have():
    """A function of the registry's hook that changes something, and is not called here, would be unseen."""
    changing = {"set_registered_model_alias", "delete_registered_model_alias", "set_model_version_tag"}
    callers = {
        name
        for name, found in vars(registry).items()
        if callable(found) and changing & set(getattr(getattr(found, "__code__", None), "co_names", ()))
    }
    assert callers == {"set_tags", "mark_staging", "promote", "run_beside", "end_beside"}


def test_tags_are_named_as_unity_catalog_takes_them():
    """Its page on tags: at most 255 characters in a name, and none of these; no message of the interface says so."""
    names = {name for name in vars(tags).values() if isinstance(name, str) and name.startswith("lifecycle_")}
    assert {tags.IMAGE, tags.RUN_KEY} < names
    assert [
        name for name in (*names, registry.approval_tag(IMAGE)) if re.search("[.,=/:-]", name) or len(name) > 255
    ] == []


def registered(monkeypatch: pytest.MonkeyPatch, double: Double, tmp_path: Any) -> list[Request]:
    """Register a real model; its files go to a folder, for the storage behind is not the workspace's."""
    arguments = register.classifier_arguments(make_bundle(tmp_path / "bundle", 1), tmp_path)
    folder = tmp_path / "model"
    mlflow.pyfunc.save_model(str(folder), artifacts={"bundle": str(tmp_path / "bundle")}, **arguments)
    store: Any = rest_store.UcModelRegistryStore
    monkeypatch.setattr(
        store, "_get_artifact_repo", lambda *_: type("Repo", (), {"log_artifacts": lambda *_, **__: None})
    )
    monkeypatch.setattr(store, "_get_run_and_headers", lambda self, run_id: (None, None))
    registry.client()
    return asked(double, lambda: mlflow.register_model(str(folder), MODEL, tags={tags.RUN_KEY: "key"}))


def test_model_is_registered_as_unity_catalog_wants_it(monkeypatch, workspace, tmp_path):
    requests = registered(monkeypatch, workspace, tmp_path)
    assert [found for request in requests if (found := misfit(request))] == []
    kinds = [request.path.partition("unity-catalog/")[2] for request in requests]
    assert {"registered-models/create", "model-versions/create", "model-versions/finalize"} <= set(kinds)
    made = next(request.body for request in requests if request.path.endswith("model-versions/create"))
    assert made["tags"] == [{"key": tags.RUN_KEY, "value": "key"}], "tags are written together with the version"


@pytest.mark.parametrize("call", ["by alias", "by run", "tags", "staging", "no longer beside"])
def test_misspelt_member_is_found(workspace, call):
    for request in asked(workspace, CALLS[call]):
        for part in ("query", "body"):
            for name in getattr(request, part) or {}:
                sent = {f"{key}s" if key == name else key: value for key, value in getattr(request, part).items()}
                assert misfit(request._replace(**{part: sent})), (request.path, name)


def test_what_unity_catalog_does_not_have_is_refused_by_its_client(workspace):
    with pytest.raises(mlflow.exceptions.MlflowException, match="unsupported for models in the Unity Catalog"):
        registry.client().search_model_versions(f"name = '{MODEL}'", order_by=["version_number DESC"])
    assert isinstance(versions.version_of_number(registry.client(), MODEL, "3"), ModelVersion)
