"""The OpenAPI 3.1 document, made from the feature contract."""

from typing import Any

import msgspec

from serving.accounting import REQUEST_ID_PATTERN
from serving.errors import (
    MEDIA_TYPE,
    ContractViolated,
    Document,
    InternalError,
    KeyMissing,
    KeyRefused,
    MethodNotAllowed,
    NotReady,
    Problem,
    TooLarge,
    Unparsable,
    UnsupportedMediaType,
)
from serving.scoring.bundle import Result
from serving.scoring.contract import Contract, Field
from serving.scoring.spelling import limits, takes_truth, text_limit
from serving.settings import Release, Settings
from serving.validation import allowed

_PREDICT_PROBLEMS: tuple[type[Problem], ...] = (
    Unparsable,
    KeyMissing,
    KeyRefused,
    MethodNotAllowed,
    TooLarge,
    UnsupportedMediaType,
    ContractViolated,
    InternalError,
    NotReady,
)


class Model(msgspec.Struct, frozen=True):
    """The model that answered."""

    name: str
    version: str


def openapi_document(contract: Contract, release: Release, settings: Settings) -> bytes:
    """The document as JSON; its example request works when pasted."""
    schemas = _component_schemas()
    schemas["Record"] = _record_schema(contract)
    schemas["Answer"] = _answer_schema(schemas.pop("Result"))
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": contract.title,
            "version": release.model_version,
            "description": f"{contract.description}\n\nModel `{release.model_name}` version `{release.model_version}`.",
        },
        "paths": _paths(contract, settings),
        "components": {"schemas": schemas},
    }
    if settings.auth == "keys":
        document["components"]["securitySchemes"] = {"ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
    return msgspec.json.encode(document)


def _component_schemas() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(
        (Result, Document, Model), ref_template="#/components/schemas/{name}"
    )
    components["Problem"] = components.pop("Document")
    return components


def _answer_schema(result: dict[str, Any]) -> dict[str, Any]:
    identity = {
        "request_id": {"type": "string", "description": "The request's X-Request-ID, or a new one."},
        "model": {"$ref": "#/components/schemas/Model"},
    }
    return {
        "type": "object",
        "properties": identity | result["properties"],
        "required": [*identity, *result["required"]],
    }


def _record_schema(contract: Contract) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {field.name: _field_schema(field) for field in contract.fields},
        "required": [field.name for field in contract.fields if field.required],
        "additionalProperties": False,
    }


def _field_schema(field: Field) -> dict[str, Any]:
    kinds = [{"category": "string", "integer": "integer", "number": "number"}[field.kind]]
    kinds += ["boolean"] if field.kind == "category" and takes_truth(field) else []
    kinds += ["null"] if field.nullable else []
    schema: dict[str, Any] = {
        "type": kinds if len(kinds) > 1 else kinds[0],
        "description": f"{field.description.rstrip('.')}. Takes {allowed(field)}.",
        "examples": [field.example],
    }
    if field.kind == "category":
        # No enum: an unknown category is accepted and encoded as unknown.
        schema["maxLength"] = text_limit(field)
        return schema
    low, high = limits(field)
    if low is not None:
        schema["minimum"] = low
    if high is not None:
        schema["maximum"] = high
    return schema


def _paths(contract: Contract, settings: Settings) -> dict[str, Any]:
    predict: dict[str, Any] = {
        "summary": "Score records",
        "operationId": "predict",
        "description": "Probabilities, drift against the training data, and outliers. Every request is logged.",
        "parameters": [
            {
                "name": "X-Request-ID",
                "in": "header",
                "required": False,
                "description": "Comes back in the answer and in the log; one that is not sane is replaced.",
                "schema": {"type": "string", "pattern": f"^{REQUEST_ID_PATTERN}$"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Record"}, "minItems": 1},
                    "example": [{field.name: field.example for field in contract.fields}],
                }
            },
        },
        "responses": {"200": _json_response("One answer for the request", "Answer")} | _problem_responses(settings),
    }
    if settings.auth == "keys":
        predict["security"] = [{"ApiKey": []}]
    return {
        "/predict": {"post": predict},
        "/healthz": {"get": _probe("Whether the process answers", "healthz")},
        "/readyz": {"get": _probe("Whether the model is loaded and the server not draining", "readyz", NotReady)},
        "/version": {"get": _probe("Service, model name and version, image revision", "version")},
    }


def _probe(summary: str, operation: str, *problems: type[Problem]) -> dict[str, Any]:
    answer = {"description": summary, "content": {"application/json": {"schema": {"type": "object"}}}}
    return {
        "summary": summary,
        "operationId": operation,
        "responses": {"200": answer} | {str(int(problem.status)): _problem_response(problem) for problem in problems},
    }


def _json_response(description: str, schema: str, media_type: str = "application/json") -> dict[str, Any]:
    return {
        "description": description,
        "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _problem_response(problem: type[Problem]) -> dict[str, Any]:
    return _json_response(problem.title, "Problem", MEDIA_TYPE)


def _problem_responses(settings: Settings) -> dict[str, Any]:
    return {
        str(int(problem.status)): _problem_response(problem)
        for problem in _PREDICT_PROBLEMS
        if settings.auth == "keys" or problem not in (KeyMissing, KeyRefused)
    }
