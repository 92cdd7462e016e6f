"""Bytes in, bytes out: strict JSON, and errors that a client can act on.

Whatever a client sends, it gets a 4xx with one sentence in `error` (the field the Open Inference Protocol asks for),
and never a stack trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.responses import Response

from include.errors import UserError, WindtunnelError, clip
from include.serving.encoding import encode

JSON_TYPE = "application/json"
_SHOWN_PROBLEMS = 5

Model = TypeVar("Model", bound=BaseModel)


class RequestError(UserError):
    """A request that cannot be answered as it is; `status` is the HTTP status, `headers` go with it."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 422,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        hint: str = "",
        **fields: Any,
    ) -> None:
        super().__init__(message, hint=hint, **fields)
        self.status = status
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)


def reply(value: Any, status: int = 200) -> Response:
    """A JSON response."""
    return Response(encode(value), status, media_type=JSON_TYPE)


def error_reply(error: WindtunnelError) -> Response:
    """The response to a request that failed with `error`."""
    status = error.status if isinstance(error, RequestError) else 500
    body: dict[str, Any] = {"error": error.message}
    if error.hint:
        body["hint"] = error.hint
    response = reply(body | error.fields, status)
    if isinstance(error, RequestError):
        response.headers.update(error.headers)
    if status in {408, 413}:  # the rest of the body is on its way and nobody will read it
        response.headers["connection"] = "close"
    return response


def parse(body: bytes) -> Any:
    """The JSON value in `body`; NaN and Infinity are refused, as JSON does.

    Raises:
        RequestError: It is not JSON (400).
    """
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise RequestError(
            f"the body is not JSON: {clip(error, 200)}", status=400, hint="send a JSON object in UTF-8"
        ) from None


def validate(model: type[Model], value: Any) -> Model:
    """`value` as a `model`.

    Raises:
        RequestError: It does not fit; `problems` lists the first few places.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    problems = [
        {"field": clip(".".join(map(str, item["loc"])), 100), "message": _sentence(item)}
        for item in found[:_SHOWN_PROBLEMS]
    ]
    shown = "; ".join(
        f"{problem['field']}: {problem['message']}" if problem["field"] else problem["message"] for problem in problems
    )
    raise RequestError(shown, problems=problems)


def _sentence(item: Mapping[str, Any]) -> str:
    return {"extra_forbidden": "unknown key", "missing": "required, but not given"}.get(
        item["type"], clip(item["msg"], 200)
    )
