"""The gateway's OpenAPI schema (`GET /openapi.json`), with the limits that this process works by.

It is made from the models that requests are checked against, so that it cannot say something else than the checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from include.serving import messages as m
from include.serving.binary import HEADER
from include.serving.config import GatewayConfig
from include.serving.models import LoadedTable, trial_row
from include.serving.tensors import InferRequest

_JSON, _BINARY, _TEXT = "application/json", "application/octet-stream", "text/plain"
_REF = "#/components/schemas/{model}"
_ERRORS = {
    400: "The body cannot be read.",
    401: "An API key is needed.",
    404: "There is no such family, version, generation or answer.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is compressed.",
    422: "The request does not fit the model, or is beyond a limit.",
    429: "This client is over its limits; `Retry-After` says when to try again.",
    500: "The model failed.",
    503: "Nothing serves, or the gateway or the model has too much to do; `Retry-After` says when to try again.",
    504: "There was no answer in time.",
}
_EXAMPLE_WORDS = 8
_BODY_ERRORS = (400, 408, 413, 415, 422, 429, 503)
_REPLIES: tuple[type[BaseModel], ...] = (
    m.AskReply, m.FeedbackReply, m.InferReply, m.ServerReply, m.LiveReply, m.ReadyReply, m.ModelReadyReply,
    m.ModelReply, m.IndexEntry, m.RouteReply, m.StatsReply, m.WorkersReply,
    m.ErrorReply,
)  # fmt: skip
_REQUESTS: tuple[type[BaseModel], ...] = (m.AskRequest, m.FeedbackRequest, m.IndexRequest, InferRequest)


def openapi(config: GatewayConfig, tables: Mapping[str, LoadedTable]) -> dict[str, Any]:
    """The schema as a JSON-serialisable document (OpenAPI 3.1), with examples of the families that are served."""
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Windtunnel gateway",
            "version": "2",
            "description": "Questions, feedback, and the Open Inference Protocol v2.",
        },
        "paths": _own_paths() | _protocol_paths(),
        "components": {"schemas": _schemas(config), **_security_schemes(config)},
        **({"security": [{"bearer": []}, {"header": []}]} if config.clients else {}),
    }
    _add_examples(document["paths"], tables)
    return document


def _add_examples(paths: dict[str, Any], tables: Mapping[str, LoadedTable]) -> None:
    values = {name: trial_row(table.champion.runtime, _EXAMPLE_WORDS) for name, table in tables.items()}
    versions = {table.table.champion.version: {"value": table.table.champion.version} for table in tables.values()}
    asked = {name: {"value": {"family": name, "inputs": inputs}} for name, inputs in values.items()}
    inferred = {}
    for name, table in tables.items():
        kinds = table.champion.runtime.inputs.items()
        inputs = [
            {"name": kind, "shape": [1], "datatype": datatype, "data": [values[name][kind]]} for kind, datatype in kinds
        ]
        inferred[name] = {"value": {"inputs": inputs}}
    for path, operations in paths.items():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                if parameter["name"] == "version" and versions:
                    parameter["examples"] = versions
                elif parameter["name"] == "family" and tables:
                    parameter["examples"] = {name: {"value": name} for name in tables}
            examples = asked if path == "/v1/ask" else inferred if path.endswith("/infer") else {}
            if examples:
                operation["requestBody"]["content"][_JSON]["examples"] = examples


def _own_paths() -> dict[str, Any]:
    family = _query("family", {"type": "string"}, "Needed where several families are served.")
    generation = _query(
        "generation", {"type": "integer", "minimum": 0, "maximum": 999_999_999}, "The newest if missing."
    )
    return {
        "/v1/ask": {"post": _post("ask", "Ask a question", m.AskRequest, m.AskReply, 404, 500, 504)},
        "/v1/feedback": {"post": _post("feedback", "Say what was right", m.FeedbackRequest, m.FeedbackReply, 404, 504)},
        "/v1/routes": {
            "get": _get("routes", "What serves", {"type": "object", "additionalProperties": _ref(m.RouteReply)})
        },
        "/v1/stats": {
            "get": _get("stats", "What the variants did", _ref(m.StatsReply), 404, 422, 503, given=[family, generation])
        },
        "/v1/workers": {"get": _get("workers", "The processes that serve", _ref(m.WorkersReply))},
        "/metrics": {"get": _get("metrics", "Prometheus metrics", {"type": "string"}, media=_TEXT)},
    }


def _protocol_paths() -> dict[str, Any]:
    ready = _get("server_ready", "Whether requests should be sent here", _ref(m.ReadyReply), open_to_all=True)
    ready["responses"]["503"] = _response("Nothing serves yet, or it is told to stop.", _ref(m.ReadyReply))
    index = _post("repository_index", "The loaded models", m.IndexRequest, m.IndexEntry)
    index["requestBody"]["required"] = False
    index["responses"]["200"] = _response("They.", {"type": "array", "items": _ref(m.IndexEntry)})
    paths = {
        "/v2": {"get": _get("server_metadata", "Server metadata", _ref(m.ServerReply))},
        "/v2/health/live": {
            "get": _get("server_live", "Whether the server works", _ref(m.LiveReply), open_to_all=True)
        },
        "/v2/health/ready": {"get": ready},
        "/v2/repository/index": {"post": index},
    }
    for suffix, path in (("", "/v2/models/{family}"), ("_version", "/v2/models/{family}/versions/{version}")):
        given = [_path(name) for name in ("family", "version") if f"{{{name}}}" in path]
        model_ready = _get(f"model_ready{suffix}", "Whether a model answers", _ref(m.ModelReadyReply), 404, given=given)
        one_of = {"oneOf": [_ref(m.ModelReadyReply), _ref(m.ErrorReply)]}
        model_ready["responses"]["503"] = _response("It hangs, or nothing serves yet.", one_of)
        paths[path] = {"get": _get(f"model{suffix}", "Model metadata", _ref(m.ModelReply), 404, 503, given=given)}
        paths[f"{path}/ready"] = {"get": model_ready}
        paths[f"{path}/infer"] = {"post": _infer(suffix, given)}
    return paths


def _infer(suffix: str, given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    operation = _post(f"infer{suffix}", "Inference", InferRequest, m.InferReply, 404, 500, 504, given=given)
    header = {"description": "Length of the JSON before binary tensors.", "schema": {"type": "integer", "minimum": 0}}
    operation["responses"]["200"]["content"][_BINARY] = {}
    operation["responses"]["200"]["headers"] = {HEADER: header}
    operation["parameters"] = [
        *operation.get("parameters", []),
        {"name": "x-unit-id", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 256}},
    ]
    operation["description"] = (
        f"A binary body (the protocol's extension for binary tensor data) says in the header `{HEADER}` how long its "
        "JSON is."
    )
    return operation


def _get(
    name: str,
    summary: str,
    schema: Mapping[str, Any],
    *errors: int,
    given: Sequence[Mapping[str, Any]] = (),
    media: str = _JSON,
    open_to_all: bool = False,
) -> dict[str, Any]:
    responses = {"200": _response("The reply.", schema, media), **_errors((*errors, *(() if open_to_all else (401,))))}
    security: dict[str, Any] = {"security": []} if open_to_all else {}
    return {"operationId": name, "summary": summary, "parameters": list(given), "responses": responses, **security}


def _post(
    name: str,
    summary: str,
    body: type[BaseModel],
    result: type[BaseModel],
    *errors: int,
    given: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    operation = _get(name, summary, _ref(result), *errors, *_BODY_ERRORS, given=given)
    operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": _ref(body)}}}
    return operation


def _errors(statuses: Sequence[int]) -> dict[str, Any]:
    found = {str(status): _response(_ERRORS[status], _ref(m.ErrorReply)) for status in sorted(set(statuses))}
    for status in found.keys() & {"429", "503"}:
        found[status]["headers"] = {"retry-after": {"schema": {"type": "integer", "minimum": 1}}}
    return found


def _response(description: str, schema: Mapping[str, Any], media: str = _JSON) -> dict[str, Any]:
    return {"description": description, "content": {media: {"schema": schema}}}


def _query(name: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas(config: GatewayConfig) -> dict[str, Any]:
    """The models' schemas, with this process's limits in those of requests."""
    wanted = [(model, "validation") for model in (*_REQUESTS, *_REPLIES)]
    _, document = models_json_schema(wanted, ref_template=_REF)  # type: ignore[arg-type]
    schemas: dict[str, Any] = document["$defs"]
    question = next(
        kind for kind in schemas["AskRequest"]["properties"]["question"]["anyOf"] if kind["type"] == "string"
    )
    question |= {"maxLength": config.max_text, "pattern": r"\S"}
    parameters = schemas["InferRequest"]["properties"]["parameters"]
    parameters["properties"] = {
        "unit_id": {"type": ["string", "null"], "minLength": 1, "maxLength": 256, "description": "Who asks."},
        "timeout": {"type": ["integer", "null"], "minimum": 0, "description": "Microseconds."},
        "binary_data_output": {"description": "true: all outputs in binary."},
    }
    return schemas


def _security_schemes(config: GatewayConfig) -> dict[str, Any]:
    if not config.clients:
        return {}
    bearer = {"type": "http", "scheme": "bearer"}
    return {"securitySchemes": {"bearer": bearer, "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}}
