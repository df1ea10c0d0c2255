"""The OpenAPI 3.1 document, made from the feature contract."""

from typing import Any

import msgspec

from serving.accounting import REQUEST_ID_PATTERN
from serving.answers import NOTE, REST, ScoredRecord
from serving.errors import (
    FAULTS_SHOWN,
    MEDIA_TYPE,
    Busy,
    ContractViolated,
    Document,
    InternalError,
    KeyMissing,
    KeyRefused,
    MethodNotAllowed,
    NoReasons,
    NotAcceptable,
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
from serving.examples import examples
from serving.files import CSV_COLUMNS, REASONS_COLUMN, csv_table
from serving.media import CSV, JSON, NDJSON
from serving.metrics import MANY_RECORDS
from serving.predict import LARGEST_ANSWER
from serving.scoring.bundle import DRIFT_KEYS, Result
from serving.scoring.contract import Contract, Field
from serving.scoring.explain import NAMED
from serving.scoring.spelling import limits, takes_truth, text_limit
from serving.settings import Release, Settings
from serving.validation import allowed
from serving.version import Version

_PREDICT_PROBLEMS: tuple[type[Problem], ...] = (
    Unparsable,
    ParameterRefused,
    NoReasons,
    KeyMissing,
    KeyRefused,
    TokenRefused,
    RoleMissing,
    MethodNotAllowed,
    NotAcceptable,
    TooLarge,
    UnsupportedMediaType,
    ContractViolated,
    Busy,
    InternalError,
    NotReady,
    Stopped,
)


_SCHEMES: dict[str, dict[str, str]] = {
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "Your key, which whoever runs this server gives you. It names you in the log.",
    },
    "Entra": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token of Microsoft Entra ID, of an application with the role that is asked for.",
    },
}


def _schemes(settings: Settings) -> list[str]:
    return ["Entra", "ApiKey"] if settings.auth == "entra" else ["ApiKey"]


_MEMBERS: dict[str, dict[str, str]] = {
    "Result": {
        "classifier__predictions": "Probability of the positive outcome, one for each record.",
        "drift__threshold": "A field with a p-value below it counts as drifting.",
        "drift__sample_size": "Records in the request. A field that is missing in some is tested on the others.",
        "drift__is_drift": "Whether the request's records differ from the training data, by field.",
        "drift__p_value": "How likely so large a difference is by chance, by field.",
        "drift__adjusted_p_value": "The same by Benjamini-Hochberg, which allows for the number of fields.",
        "drift__magnitude": "1 - p, by field.",
        "outliers__is_outlier": "Whether the record is unlike the training data, one for each record.",
        "outliers__score": "Above 0 for an outlier; larger is stranger. One for each record.",
    },
    "Model": {"name": "Name of the registered model.", "version": "Its version."},
    "Version": {
        "service": "Title of the service.",
        "model": "The model that answers.",
        "revision": "Git revision of the image; empty where there is no image.",
        "run_id": "MLflow run that the model comes from.",
        "data_digest": "Digest of the data that it was trained on.",
        "code_hash": "Digest of the image's code.",
        "sbom_digest": "Digest of the image's list of packages.",
        "created": "When the image was built.",
        "extras": "Optional packages of the image.",
        "signed_by": "Who has signed the model; null where nobody has.",
        "stopped": "Why nothing is scored; null where records are scored.",
        "reasons": "Whether the model gives reasons: explain=true.",
    },
    "SignedBy": {"signer": "Whoever holds the private key.", "key": "Id of the public key."},
    "Stop": {"reason": "Why the service was stopped.", "since": "Since when, where that was written down."},
    "Reason": {
        "field": "Name of the field.",
        "value": "What the record has there; null where it is missing.",
        "effect": "What it adds to the log-odds: its Shapley value.",
        "direction": "What it does to the probability.",
        "text": "The same as a sentence.",
    },
    "UnknownCategory": {
        "field": "Name of the field.",
        "value": "The category that was sent.",
        "text": "The same as a sentence.",
    },
    "Problem": {
        "type": "Name of the kind of problem, which stays the same.",
        "title": "The kind of problem, for people.",
        "status": "The answer's HTTP status.",
        "detail": "What is wrong with this request, and what to do.",
        "request_id": "The request's X-Request-ID, or a new one. Tell it to whoever runs this server if you need help.",
        "errors_total": "How many faults the request has.",
        "errors": f"Its faults, at most {FAULTS_SHOWN} of them.",
    },
    "Fault": {
        "record": "Index of the record in the request, from 0.",
        "line": "Line of a CSV file or of JSON by line in which the record begins, from 1, the header's.",
        "field": "Name of the field.",
        "given": "What was sent, shortened; absent where the fault is that there is nothing.",
        "allowed": "What would have been right.",
    },
}


SCORING, SERVER = "Scoring", "Server"
_TAGS = [
    {"name": SCORING, "description": "Ask about records."},
    {"name": SERVER, "description": "What runs here, and whether it answers."},
]


def openapi_document(contract: Contract, release: Release, settings: Settings, *, gives_reasons: bool) -> bytes:
    """The document as JSON; its example request works when pasted. ``gives_reasons``: the model has exact ones."""
    schemas = _component_schemas()
    schemas["Record"] = _record_schema(contract)
    schemas["DriftFlags"] = _by_field(contract, "boolean", "A truth value for each field that drift is tested of.")
    schemas["DriftFigures"] = _by_field(contract, "number", "A figure for each field that drift is tested of.")
    schemas["Answer"] = _answer_schema(schemas.pop("Result"))
    schemas["ScoredRecord"] = _scored_record_schema(schemas["ScoredRecord"], contract)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": contract.title,
            "version": release.model_version,
            "description": "\n\n".join(
                (
                    contract.description,
                    f"Model `{release.model_name}` version `{release.model_version}`.",
                    _limits(settings),
                    examples(contract, settings, gives_reasons=gives_reasons),
                )
            ),
        },
        "servers": [{"url": "/", "description": "The server that this document comes from."}],
        "tags": _TAGS,
        "paths": _paths(contract, settings, gives_reasons),
        "components": {"schemas": schemas},
    }
    if settings.auth != "off":
        schemes = {name: _SCHEMES[name] for name in _schemes(settings)}
        document["components"]["securitySchemes"] = schemes
    return msgspec.json.encode(document)


def _limits(settings: Settings) -> str:
    return (
        f"## Limits\n\nA request may have at most {settings.max_body:,} bytes, and its records, written as JSON, no "
        f"more than that. What the answer says of them may have at most {LARGEST_ANSWER:,} bytes. Larger ones are "
        f"refused with 413: send fewer records in a request. A client has {settings.client_timeout} seconds to send "
        "its request, and as many to take the answer. One request at a time may ask for reasons that take longer than "
        "about two seconds; another one meanwhile is refused with 429: try again after `Retry-After`."
    )


def _component_schemas() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(
        (Result, Document, Version, ScoredRecord), ref_template="#/components/schemas/{name}"
    )
    components["Problem"] = components.pop("Document") | {"title": "Problem"}
    for schema, texts in _MEMBERS.items():
        for name, text in texts.items():
            components[schema]["properties"][name]["description"] = text
    return components


def _answer_schema(result: dict[str, Any]) -> dict[str, Any]:
    identity = {
        "request_id": {"type": "string", "description": "The request's X-Request-ID, or a new one."},
        "model": {"$ref": "#/components/schemas/Model", "description": "Which model answered."},
    }
    records = {
        "type": "array",
        "items": {"$ref": "#/components/schemas/ScoredRecord"},
        "description": "What is said of each record, in the order of the request.",
    }
    drift = {
        name: {"$ref": f"#/components/schemas/{schema}", "description": result["properties"][name]["description"]}
        for name, schema in _BY_FIELD.items()
    }
    note = {"type": "string", "description": f"There when the request has fewer than {MANY_RECORDS} records: {NOTE}"}
    always = [name for name in result["required"] if name not in DRIFT_KEYS]
    return {
        "type": "object",
        "description": "What the model says of a request.",
        "properties": identity | result["properties"] | drift | {"drift__note": note, "records": records},
        "required": [*identity, *always, "records"],
    }


_BY_FIELD = {
    "drift__is_drift": "DriftFlags",
    "drift__p_value": "DriftFigures",
    "drift__adjusted_p_value": "DriftFigures",
    "drift__magnitude": "DriftFigures",
}


def _by_field(contract: Contract, kind: str, text: str) -> dict[str, Any]:
    names = {field.name: {"type": kind, "description": _sentence(field)} for field in contract.drift_fields}
    return {
        "type": "object",
        "description": text,
        "properties": names,
        "required": list(names),
        "additionalProperties": False,
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
    if kinds := [field.kind for field in contract.fields if field.name == contract.key]:
        properties["key"] = {"type": _KINDS[kinds[0]], "description": texts["key"]}
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
        "description": "One record, as the model's feature contract has it.",
        "properties": {field.name: _field_schema(field) for field in contract.fields},
        "required": [field.name for field in contract.fields if field.required],
        "additionalProperties": False,
    }


def _sentence(field: Field) -> str:
    return f"{field.description.rstrip('.')}."


_KINDS = {"category": "string", "integer": "integer", "number": "number"}


def _field_schema(field: Field) -> dict[str, Any]:
    kinds = [_KINDS[field.kind]]
    kinds += ["boolean"] if field.kind == "category" and takes_truth(field) else []
    kinds += ["null"] if field.nullable else []
    schema: dict[str, Any] = {
        "type": kinds if len(kinds) > 1 else kinds[0],
        "description": f"{_sentence(field)} Takes {allowed(field)}.",
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
        "tags": [SCORING],
        "description": (
            "Probabilities, drift against the training data, and outliers; records by their key. Bands, warnings and "
            "reasons are an aid to talk about a figure, and not a decision. Every request is logged."
        ),
        "parameters": [
            {
                "name": "X-Request-ID",
                "in": "header",
                "required": False,
                "description": "Comes back in the answer and is in the log. An invalid ID is replaced by a new one.",
                "schema": {"type": "string", "pattern": f"^{REQUEST_ID_PATTERN}$"},
            },
            _query("explain", False, explained),
            _query("drift", True, "Whether the answer has the members about drift."),
        ],
        "requestBody": {"required": True, "content": _bodies(contract)},
        "responses": {"200": _answers()} | _problem_responses(settings),
    }
    if settings.auth != "off":
        predict["security"] = [{name: []} for name in _schemes(settings)]
    return {
        "/predict": {"post": predict},
        "/healthz": {"get": _get("Whether the process answers", "healthz", _status("ok"))},
        "/readyz": {
            "get": _get("Whether the model is loaded and the server not draining", "readyz", _status("ready"), NotReady)
        },
        "/version": {
            "get": _get(
                "Service, model, image revision, and whether and why it is stopped",
                "version",
                {"$ref": "#/components/schemas/Version"},
            )
        },
    }


def _status(said: str) -> dict[str, Any]:
    status = {"type": "string", "const": said, "description": "The same in every answer of status 200."}
    return {"type": "object", "properties": {"status": status}, "required": ["status"]}


def _bodies(contract: Contract) -> dict[str, Any]:
    example = {field.name: field.example for field in contract.fields}
    csv = (
        "A header line with the names of the fields, in any order, and a line for each record. An empty cell is a "
        "missing value."
    )
    ndjson = "A line for each record, which is one JSON object."
    return {
        JSON: {
            "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Record"}, "minItems": 1},
            "example": [example],
        },
        CSV: {"schema": {"type": "string", "description": csv}, "example": csv_table([example])},
        NDJSON: {
            "schema": {"type": "string", "description": ndjson},
            "example": msgspec.json.encode(example).decode() + "\n",
        },
    }


def _answers() -> dict[str, Any]:
    csv = (
        f"With Accept: {CSV}. A header line and a line for each record: {', '.join(CSV_COLUMNS)}, and with "
        f"explain=true {REASONS_COLUMN}. Warnings and reasons are sentences. A text that a spreadsheet would take for "
        "a formula has an apostrophe before it."
    )
    ndjson = f"With Accept: {NDJSON}. A ScoredRecord in each line; the members about drift are left out."
    answer = _json_response("One answer for the request", "Answer")
    answer["content"] |= {
        CSV: {"schema": {"type": "string", "description": csv}},
        NDJSON: {"schema": {"type": "string", "description": ndjson}},
    }
    return answer


def _get(summary: str, operation: str, schema: dict[str, Any], *problems: type[Problem]) -> dict[str, Any]:
    answer = {"description": summary, "content": {JSON: {"schema": schema}}}
    return {
        "tags": [SERVER],
        "summary": summary,
        "operationId": operation,
        "responses": {"200": answer} | {str(int(problem.status)): _problem_response(problem) for problem in problems},
    }


def _json_response(description: str, schema: str, media_type: str = JSON) -> dict[str, Any]:
    return {
        "description": description,
        "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


_HEADERS: dict[str, dict[str, Any]] = {
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "What is asked for.", "schema": {"type": "string"}},
}


def _problem_response(*problems: type[Problem]) -> dict[str, Any]:
    answer = _json_response("; ".join(problem.title for problem in problems), "Problem", MEDIA_TYPE)
    if headers := {name: _HEADERS[name] for problem in problems for name, _ in problem.headers}:
        answer["headers"] = headers
    return answer


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
