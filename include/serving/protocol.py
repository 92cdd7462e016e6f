"""The Open Inference Protocol (v2) over HTTP, with the extensions for binary tensors and the repository's index.

https://github.com/kserve/open-inference-protocol. A model is a family; its versions are those of the routing table, and
a request that names none is answered by the variant that the table assigns to whoever asks.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from include.serving import binary
from include.serving.gateway import Gateway, Question
from include.serving.intake import Intake
from include.serving.messages import IndexRequest
from include.serving.models import LoadedTable
from include.serving.tensors import InferRequest, batch, tensor_out, wanted_outputs
from include.serving.visit import visit_of
from include.serving.wire import RequestError, parse, reply, validate

SERVER_NAME = "windtunnel"
EXTENSIONS = ["binary_tensor_data", "model_repository"]
UNIT_HEADER = "x-unit-id"
_MICROSECONDS = 1e6


class OpenInference:
    """The protocol's endpoints."""

    def __init__(self, gateway: Gateway, intake: Intake) -> None:
        self._gateway = gateway
        self._config = gateway.config
        self._intake = intake

    def routes(self) -> list[Route]:
        """All of them."""
        family = "/v2/models/{family}"
        version = family + "/versions/{version}"
        return [
            Route(f"{family}/infer", self.infer, methods=["POST"]),
            Route(f"{version}/infer", self.infer, methods=["POST"]),
            Route("/v2", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/repository/index", self.index, methods=["POST"]),
            Route(family, self.model),
            Route(version, self.model),
            Route(f"{family}/ready", self.model_ready),
            Route(f"{version}/ready", self.model_ready),
        ]

    async def infer(self, request: Request) -> Response:
        asked, question = await self._intake.take(request, self._question)
        runtime = question.table.champion.runtime
        names = wanted_outputs(runtime, asked)
        done = await self._gateway.ask(question)
        visit_of(request.scope).model = f"{question.table.family}@{done.variant.version}"
        record: dict[str, Any] = {
            "model_name": question.table.family,
            "model_version": done.variant.version,
            "parameters": {
                "request_id": question.request_id,
                "model_digest": done.variant.digest,
                "variant": done.variant.role,
                "generation": question.table.generation,
                "latency_ms": round(done.latency_ms, 3),
            },
            "outputs": [tensor_out(runtime, done.answers, name) for name in names],
        }
        if asked.id is not None:
            record = {"id": asked.id, **record}
        in_binary = binary.wanted(asked, names)
        return binary.binary_reply(record, in_binary) if in_binary else reply(record)

    def _question(self, request: Request, body: bytes) -> tuple[InferRequest, Question]:
        visit = visit_of(request.scope)
        header, raw = binary.split(body, request.headers.get(binary.HEADER))
        asked = validate(InferRequest, parse(header))
        binary.fill(asked, raw, self._config.max_values)
        table = self._gateway.table(request.path_params["family"])
        config = self._config
        inputs, rows = batch(table.champion.runtime, asked, config.max_rows, config.max_text, config.max_values)
        unit = _unit(request, asked) or visit.request_id
        version = request.path_params.get("version")
        question = Question(table, inputs, rows, unit, version, visit.request_id, visit.started, _seconds(asked))
        return asked, question

    async def server(self, _: Request) -> Response:
        return reply({"name": SERVER_NAME, "version": "2", "extensions": EXTENSIONS})

    async def live(self, _: Request) -> Response:
        return reply({"live": True})

    async def ready(self, _: Request) -> Response:
        is_ready = self._gateway.ready
        return reply({"ready": is_ready}, 200 if is_ready else 503)

    async def index(self, request: Request) -> Response:
        asked = await self._intake.take(request, _index_request)
        models = [
            {"name": table.family, "version": variant.version, "state": "READY", "reason": ""}
            for table in self._gateway.watcher.tables.values()
            for variant in table.table.variants
        ]
        if not asked.ready:
            failed = self._gateway.watcher.failed.items()
            models += [
                {"name": name, "version": "", "state": "UNAVAILABLE", "reason": failure.error}
                for name, failure in failed
            ]
        return reply(models)

    async def model(self, request: Request) -> Response:
        table, versions = self._named(request)
        model = table.champion
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
        table, versions = self._named(request)
        models = [table.models[variant.digest] for variant in table.table.variants if variant.version in versions]
        is_ready = not any(model.batcher.stuck for model in models)
        return reply({"name": table.family, "ready": is_ready}, 200 if is_ready else 503)

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


def _index_request(_: Request, body: bytes) -> IndexRequest:
    return validate(IndexRequest, parse(body)) if body else IndexRequest()


def _unit(request: Request, body: InferRequest) -> str | None:
    """Who asks: the `unit_id` parameter or the `X-Unit-Id` header."""
    unit = body.parameters.get("unit_id", request.headers.get(UNIT_HEADER))
    if unit is not None and not (isinstance(unit, str) and 1 <= len(unit) <= 256):
        raise RequestError("unit_id: expected a text of 1 to 256 characters")
    return unit


def _seconds(body: InferRequest) -> float | None:
    """How long the client wants to wait: the `timeout` parameter, microseconds as Triton has it."""
    timeout = body.parameters.get("timeout")
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 0:
        raise RequestError("timeout: expected whole microseconds")
    return timeout / _MICROSECONDS or None
