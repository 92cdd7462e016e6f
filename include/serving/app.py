"""The gateway over HTTP: Open Inference Protocol v2, questions and feedback, and what operators look at."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from include.serving.gateway import Gateway, Question, new_request_id
from include.serving.metrics import CONTENT_TYPE, exposition
from include.serving.models import LoadedTable
from include.serving.tensors import InferRequest, batch, one_row, tensor_out, wanted_outputs
from include.serving.wire import RequestError, error_reply, parse, read_body, reply, validate

SERVER_NAME = "windtunnel"
OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})  # probes carry no key
UNIT_HEADER = "x-unit-id"
Identifier = Annotated[str, Field(min_length=1, max_length=256)]


class AskRequest(BaseModel):
    """Body of `POST /v1/ask`: a question, or the inputs of a family that takes something else."""

    model_config = ConfigDict(extra="forbid")

    question: str | None = None
    inputs: dict[str, Any] | None = None
    unit_id: Identifier | None = None
    family: Identifier | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> AskRequest:
        if (self.question is None) == (self.inputs is None):
            raise ValueError("give either `question` or `inputs`")
        return self


class FeedbackRequest(BaseModel):
    """Body of `POST /v1/feedback`: the truth in the family's own terms, or whether the answer helped."""

    model_config = ConfigDict(extra="forbid")

    request_id: Identifier
    truth: dict[str, Any] | None = None
    helpful: StrictBool | None = None

    @model_validator(mode="after")
    def _something(self) -> FeedbackRequest:
        if self.truth is None and self.helpful is None:
            raise ValueError("give `truth` or `helpful`")
        return self


def make_app(gateway: Gateway) -> ASGIApp:
    """The ASGI application of a gateway; its lifespan starts and stops the gateway's threads."""
    handlers = _Handlers(gateway)
    family = "/v2/models/{family}"
    version = family + "/versions/{version}"
    routes = [
        Route("/v1/ask", handlers.ask, methods=["POST"]),
        Route("/v1/feedback", handlers.feedback, methods=["POST"]),
        Route(f"{family}/infer", handlers.infer, methods=["POST"]),
        Route(f"{version}/infer", handlers.infer, methods=["POST"]),
        Route("/v1/routes", handlers.routes),
        Route("/v1/stats", handlers.stats),
        Route("/metrics", handlers.metrics),
        Route("/v2", handlers.server),
        Route("/v2/health/live", handlers.live),
        Route("/v2/health/ready", handlers.ready),
        Route(family, handlers.model),
        Route(version, handlers.model),
        Route(f"{family}/ready", handlers.model_ready),
        Route(f"{version}/ready", handlers.model_ready),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        gateway.start()
        yield
        await gateway.stop()

    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={RequestError: _request_error, HTTPException: _http_error, Exception: _unknown_error},
    )
    app.router.redirect_slashes = False
    return _KeyRequired(app, gateway.config.api_key) if gateway.config.api_key else app


class _Handlers:
    """One method per endpoint: check, call the gateway, shape the reply."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._config = gateway.config

    async def ask(self, request: Request) -> Response:
        started = perf_counter()
        body = validate(AskRequest, parse(await read_body(request, self._config.max_body)))
        table = self._gateway.table(body.family)
        given = {"question": body.question} if body.inputs is None else body.inputs
        inputs = one_row(_runtime(table), given, self._config.max_text)
        request_id = new_request_id()
        question = Question(table, inputs, 1, body.unit_id or request_id, None, request_id, started)
        done = await self._gateway.ask(question)
        return reply(
            {
                **done.answers.records[0],
                "request_id": request_id,
                "family": table.family,
                "model_version": done.variant.version,
                "model_digest": done.variant.digest,
                "variant": done.variant.role,
                "generation": table.generation,
                "latency_ms": round(done.latency_ms, 3),
            }
        )

    async def infer(self, request: Request) -> Response:
        started = perf_counter()
        if "inference-header-content-length" in request.headers:
            raise RequestError("binary tensors are not accepted", status=415, hint="send the JSON form")
        body = validate(InferRequest, parse(await read_body(request, self._config.max_body)))
        table = self._gateway.table(request.path_params["family"])
        runtime = _runtime(table)
        inputs, rows = batch(runtime, body, self._config.max_rows, self._config.max_text)
        wanted = wanted_outputs(runtime, body)
        request_id = new_request_id()
        unit = _unit(request, body) or request_id
        question = Question(table, inputs, rows, unit, request.path_params.get("version"), request_id, started)
        done = await self._gateway.ask(question)
        record = {
            "model_name": table.family,
            "model_version": done.variant.version,
            "parameters": {
                "request_id": request_id,
                "model_digest": done.variant.digest,
                "variant": done.variant.role,
                "generation": table.generation,
                "latency_ms": round(done.latency_ms, 3),
            },
            "outputs": [tensor_out(runtime, done.answers, name) for name in wanted],
        }
        return reply(record if body.id is None else {"id": body.id, **record})

    async def feedback(self, request: Request) -> Response:
        body = validate(FeedbackRequest, parse(await read_body(request, self._config.max_body)))
        return reply(self._gateway.feedback.give(body.request_id, body.truth, body.helpful))

    async def routes(self, _: Request) -> Response:
        return reply(self._gateway.watcher.to_json())

    async def stats(self, request: Request) -> Response:
        text = request.query_params.get("generation")
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10):
            raise RequestError("generation: expected a whole number")
        generation = None if text is None else int(text)
        return reply(self._gateway.stats_of(request.query_params.get("family"), generation))

    async def metrics(self, _: Request) -> Response:
        return Response(exposition(self._gateway), media_type=CONTENT_TYPE)

    async def server(self, _: Request) -> Response:
        return reply({"name": SERVER_NAME, "version": "2", "extensions": []})

    async def live(self, _: Request) -> Response:
        return reply({"live": True})

    async def ready(self, _: Request) -> Response:
        is_ready = bool(self._gateway.watcher.tables)
        return reply({"ready": is_ready}, 200 if is_ready else 503)

    async def model(self, request: Request) -> Response:
        table, versions = self._named(request)
        model = table.models[table.table.champion.digest]
        runtime = model.runtime
        outputs = [
            {"name": name, "datatype": datatype, "shape": [-1, *model.shapes[name]]}
            for name, datatype in runtime.outputs.items()
        ]
        inputs = [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in runtime.inputs.items()]
        return reply(
            {
                "name": table.family,
                "versions": versions,
                "platform": "windtunnel_package",
                "inputs": inputs,
                "outputs": outputs,
            }
        )

    async def model_ready(self, request: Request) -> Response:
        table, _ = self._named(request)
        return reply({"name": table.family, "ready": True})

    def _named(self, request: Request) -> tuple[LoadedTable, list[str]]:
        """The table of the path's family, and its versions (only the path's version where it names one)."""
        table = self._gateway.table(request.path_params["family"])
        versions = [variant.version for variant in table.table.variants]
        version = request.path_params.get("version")
        if version is None:
            return table, versions
        if version not in versions:
            raise RequestError(
                f"version {version[:64]!r} is not loaded", status=404, hint=f"loaded: {', '.join(versions)}"
            )
        return table, [version]


def _runtime(table: LoadedTable) -> Any:
    return table.models[table.table.champion.digest].runtime


def _unit(request: Request, body: InferRequest) -> str | None:
    """Who asks: the `unit_id` parameter or the `X-Unit-Id` header."""
    unit = body.parameters.get("unit_id", request.headers.get(UNIT_HEADER))
    if unit is not None and not (isinstance(unit, str) and 1 <= len(unit) <= 256):
        raise RequestError("unit_id: expected a text of 1 to 256 characters")
    return unit


class _KeyRequired:
    """Lets only requests with the API key through."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS and not self._allowed(scope):
            refusal = error_reply(
                RequestError("an API key is needed", status=401, hint="send `Authorization: Bearer KEY`")
            )
            refusal.headers["www-authenticate"] = "Bearer"
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        for name, value in scope["headers"]:
            given = (
                value[7:]
                if name == b"authorization" and value[:7].lower() == b"bearer "
                else value
                if name == b"x-api-key"
                else None
            )
            if given is not None and hmac.compare_digest(given, self._key):
                return True
        return False


async def _request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # registered for this type
    return error_reply(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # registered for this type
    messages = {404: f"there is nothing at {request.url.path[:200]}", 405: f"{request.method} is not possible here"}
    return reply({"error": messages.get(error.status_code, error.detail)}, error.status_code)


async def _unknown_error(_: Request, __: Exception) -> Response:
    return reply({"error": "the gateway met an error that it does not know; its log has the details"}, 500)
