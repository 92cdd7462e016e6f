"""The gateway over HTTP: questions and feedback, what operators look at, and the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from include.serving.edge import Edge
from include.serving.gateway import Gateway, Question
from include.serving.intake import Intake
from include.serving.messages import AskRequest, FeedbackRequest
from include.serving.metrics import CONTENT_TYPE, exposition
from include.serving.openapi import openapi
from include.serving.protocol import OpenInference
from include.serving.tensors import one_row
from include.serving.visit import visit_of
from include.serving.wire import RequestError, error_reply, parse, reply, validate
from include.serving.workers import workers_of


def make_app(gateway: Gateway) -> ASGIApp:
    """The ASGI application of a gateway; its lifespan starts and stops the gateway's threads."""
    intake = Intake(gateway.config)
    handlers = _Handlers(gateway, intake)
    routes = [
        Route("/v1/ask", handlers.ask, methods=["POST"]),
        Route("/v1/feedback", handlers.feedback, methods=["POST"]),
        Route("/v1/routes", handlers.routes),
        Route("/v1/stats", handlers.stats),
        Route("/v1/workers", handlers.workers),
        Route("/metrics", handlers.metrics),
        Route("/openapi.json", handlers.openapi),
        *OpenInference(gateway, intake).routes(),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await gateway.start()
        yield
        await gateway.stop()

    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={RequestError: _request_error, HTTPException: _http_error, Exception: _unknown_error},
    )
    app.router.redirect_slashes = False
    return Edge(app, gateway)


class _Handlers:
    """One method per endpoint: check, call the gateway, shape the reply."""

    def __init__(self, gateway: Gateway, intake: Intake) -> None:
        self._gateway = gateway
        self._config = gateway.config
        self._intake = intake

    async def ask(self, request: Request) -> Response:
        question = await self._intake.take(request, self._question)
        done = await self._gateway.ask(question)
        table = question.table
        visit_of(request.scope).model = f"{table.family}@{done.variant.version}"
        return reply(
            {
                **done.answers.records[0],
                "request_id": question.request_id,
                "family": table.family,
                "model_version": done.variant.version,
                "model_digest": done.variant.digest,
                "variant": done.variant.role,
                "generation": table.generation,
                "latency_ms": round(done.latency_ms, 3),
            }
        )

    def _question(self, request: Request, body: bytes) -> Question:
        visit = visit_of(request.scope)
        asked = validate(AskRequest, parse(body))
        table = self._gateway.table(asked.family)
        given = {"question": asked.question} if asked.inputs is None else asked.inputs
        inputs = one_row(table.champion.runtime, given, self._config.max_text, self._config.max_values)
        return Question(table, inputs, 1, asked.unit_id or visit.request_id, None, visit.request_id, visit.started)

    async def feedback(self, request: Request) -> Response:
        given = await self._intake.take(request, _feedback)
        return reply(await self._gateway.give_feedback(given.request_id, given.truth, given.helpful))

    async def routes(self, _: Request) -> Response:
        return reply(self._gateway.watcher.to_json())

    async def stats(self, request: Request) -> Response:
        text = _parameter(request, "generation")
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10):
            raise RequestError("generation: expected a whole number")
        generation = None if text is None else int(text)
        return reply(await self._gateway.stats_of(_parameter(request, "family"), generation))

    async def workers(self, _: Request) -> Response:
        return reply(workers_of(self._gateway.seat.board))

    async def metrics(self, _: Request) -> Response:
        return Response(exposition(self._gateway), media_type=CONTENT_TYPE)

    async def openapi(self, _: Request) -> Response:
        return reply(openapi(self._config, self._gateway.watcher.tables))


def _parameter(request: Request, name: str) -> str | None:
    """A query parameter, None where it is missing. Raises `RequestError` where it is given twice."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise RequestError(f"{name}: given {len(values)} times")
    return values[0] if values else None


def _feedback(_: Request, body: bytes) -> FeedbackRequest:
    return validate(FeedbackRequest, parse(body))


async def _request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # registered for this type
    return error_reply(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # registered for this type
    messages = {404: f"there is nothing at {request.url.path[:200]}", 405: f"{request.method} is not possible here"}
    response = reply({"error": messages.get(error.status_code, error.detail)}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _unknown_error(_: Request, __: Exception) -> Response:
    return reply({"error": "the gateway met an error that it does not know; its log has the details"}, 500)
