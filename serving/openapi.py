"""The OpenAPI 3.1 document, made from the feature contract."""

from typing import Any

import msgspec

from serving.accounting import REQUEST_ID_PATTERN
from serving.answers import NOTE, REST, ScoredRecord
from serving.errors import (
    MEDIA_TYPE,
    ContractViolated,
    Document,
    InternalError,
    KeyMissing,
    KeyRefused,
    MethodNotAllowed,
    NoReasons,
    NotReady,
    ParameterRefused,
    Problem,
    RoleMissing,
    Stopped,
    TokenRefused,
    TooLarge,
    Unparsable,
    UnsupportedMediaType,
)
from serving.metrics import MANY_RECORDS
from serving.scoring.bundle import DRIFT_KEYS, Result
from serving.scoring.contract import Contract, Field
from serving.scoring.explain import NAMED
from serving.scoring.spelling import limits, takes_truth, text_limit
from serving.settings import Release, Settings
from serving.validation import allowed

_PREDICT_PROBLEMS: tuple[type[Problem], ...] = (
    Unparsable,
    ParameterRefused,
    NoReasons,
    KeyMissing,
    KeyRefused,
    TokenRefused,
    RoleMissing,
    MethodNotAllowed,
    TooLarge,
    UnsupportedMediaType,
    ContractViolated,
    InternalError,
    NotReady,
    Stopped,
)


_SCHEMES: dict[str, dict[str, str]] = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Entra": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}


def _schemes(settings: Settings) -> list[str]:
    return ["Entra", "ApiKey"] if settings.auth == "entra" else ["ApiKey"]


class Model(msgspec.Struct, frozen=True):
    """The model that answered."""

    name: str
    version: str


def openapi_document(contract: Contract, release: Release, settings: Settings, *, gives_reasons: bool) -> bytes:
    """The document as JSON; its example request works when pasted. ``gives_reasons``: the model has exact ones."""
    schemas = _component_schemas()
    schemas["Record"] = _record_schema(contract)
    schemas["Answer"] = _answer_schema(schemas.pop("Result"))
    schemas["ScoredRecord"] = _scored_record_schema(schemas["ScoredRecord"], contract)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": contract.title,
            "version": release.model_version,
            "description": f"{contract.description}\n\nModel `{release.model_name}` version `{release.model_version}`.",
        },
        "paths": _paths(contract, settings, gives_reasons),
        "components": {"schemas": schemas},
    }
    if settings.auth != "off":
        schemes = {name: _SCHEMES[name] for name in _schemes(settings)}
        document["components"]["securitySchemes"] = schemes
    return msgspec.json.encode(document)


def _component_schemas() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(
        (Result, Document, Model, ScoredRecord), ref_template="#/components/schemas/{name}"
    )
    components["Problem"] = components.pop("Document")
    return components


def _answer_schema(result: dict[str, Any]) -> dict[str, Any]:
    identity = {
        "request_id": {"type": "string", "description": "The request's X-Request-ID, or a new one."},
        "model": {"$ref": "#/components/schemas/Model"},
    }
    records = {
        "type": "array",
        "items": {"$ref": "#/components/schemas/ScoredRecord"},
        "description": "What is said of each record, in the order of the request.",
    }
    note = {"type": "string", "description": f"There when the request has fewer than {MANY_RECORDS} records: {NOTE}"}
    always = [name for name in result["required"] if name not in DRIFT_KEYS]
    return {
        "type": "object",
        "properties": identity | result["properties"] | {"drift__note": note, "records": records},
        "required": [*identity, *always, "records"],
    }


def _scored_record_schema(schema: dict[str, Any], contract: Contract) -> dict[str, Any]:
    texts = {
        "key": f"The record's {contract.key or 'key'}, where it was sent.",
        "probability": "Of the positive outcome, as in classifier__predictions.",
        "outlier": "As in outliers__is_outlier.",
        "band": _band_text(contract),
        "warnings": "The unknown categories among the fields that the model sees.",
        "base": "With explain=true: log-odds of the average of a sample of the training data.",
        "reasons": (
            f"With explain=true: up to {NAMED} fields that raise and {NAMED} that lower the probability most, the "
            "strongest first. An effect is the field's Shapley value, in log-odds: base, effects and other add up to "
            "the log-odds of the probability. They say how the model came to its figure, not why something happens."
        ),
        "other": "With explain=true: the effects of all other fields together.",
    }
    properties = {name: schema["properties"][name] | {"description": text} for name, text in texts.items()}
    return schema | {"properties": properties, "required": ["probability", "outlier"]}


def _band_text(contract: Contract) -> str:
    if contract.band is None:
        return "This model has no bands."
    return (
        f"{contract.band.title!r}, or {REST!r}. Above a probability of {contract.band.cut:.4g} lay the "
        f"{contract.band.title} of the records that the model was measured on. An aid to talk about a figure, and not "
        "a decision."
    )


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


def _query(name: str, default: bool, text: str) -> dict[str, Any]:
    schema = {"type": "boolean", "default": default}
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


def _paths(contract: Contract, settings: Settings, gives_reasons: bool) -> dict[str, Any]:
    explained = "Say why each record has its probability." if gives_reasons else "This model gives no reasons."
    predict: dict[str, Any] = {
        "summary": "Score records",
        "operationId": "predict",
        "description": (
            "Probabilities, drift against the training data, and outliers; records by their key. Bands, warnings and "
            "reasons are an aid to talk about a figure, and not a decision. Every request is logged."
        ),
        "parameters": [
            {
                "name": "X-Request-ID",
                "in": "header",
                "required": False,
                "description": "Comes back in the answer and in the log; one that is not sane is replaced.",
                "schema": {"type": "string", "pattern": f"^{REQUEST_ID_PATTERN}$"},
            },
            _query("explain", False, explained),
            _query("drift", True, "Whether the answer has the members about drift."),
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
    if settings.auth != "off":
        predict["security"] = [{name: []} for name in _schemes(settings)]
    return {
        "/predict": {"post": predict},
        "/healthz": {"get": _probe("Whether the process answers", "healthz")},
        "/readyz": {"get": _probe("Whether the model is loaded and the server not draining", "readyz", NotReady)},
        "/version": {"get": _probe("Service, model, image revision, and whether and why it is stopped", "version")},
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


def _problem_response(*problems: type[Problem]) -> dict[str, Any]:
    return _json_response("; ".join(problem.title for problem in problems), "Problem", MEDIA_TYPE)


def _problem_responses(settings: Settings) -> dict[str, Any]:
    absent = {
        "keys": (TokenRefused, RoleMissing),
        "entra": (KeyMissing,),
        "off": (KeyMissing, KeyRefused, TokenRefused, RoleMissing),
    }[settings.auth]
    by_status: dict[str, list[type[Problem]]] = {}
    for problem in _PREDICT_PROBLEMS:
        if problem not in absent:
            by_status.setdefault(str(int(problem.status)), []).append(problem)
    return {status: _problem_response(*problems) for status, problems in by_status.items()}
