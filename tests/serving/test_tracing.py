"""Traces of requests, against the SDK's own exporter in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from include.errors import UserError
from include.serving.tracing import Tracing, tracing_wanted
from tests.serving.conftest import World, served

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    yield InMemorySpanExporter()


def traced(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider)


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_request_goes_on_with_its_clients_trace_and_the_models_call_lies_in_it(
    world: World, exporter: InMemorySpanExporter
) -> None:
    world.route(world.model("1.0.0"))
    with served(world, tracing=traced(exporter)) as gateway:
        body = {"question": "a secret question"}
        answer = gateway.client.post("/v1/ask", json=body, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    found = spans(exporter)
    request, model = found["POST /v1/ask"], found["model"]
    assert request.context is not None and request.parent is not None and model.parent is not None
    assert f"{request.context.trace_id:032x}" == TRACE and f"{request.parent.span_id:016x}" == PARENT
    assert model.parent.span_id == request.context.span_id
    assert request.kind is SpanKind.SERVER and request.status.status_code is StatusCode.UNSET
    assert request.attributes is not None and request.attributes["http.response.status_code"] == 200
    assert request.attributes["windtunnel.request_id"] == answer.json()["request_id"]
    assert model.attributes is not None
    assert (model.attributes["windtunnel.family"], model.attributes["windtunnel.version"]) == ("echo", "1.0.0")
    assert all("secret" not in span.to_json() for span in found.values())


def test_names_are_of_routes_and_failures_are_marked(world: World, exporter: InMemorySpanExporter) -> None:
    world.route(world.model("1.0.0", fail_on="boom"))
    with served(world, tracing=traced(exporter)) as gateway:
        gateway.client.get("/v2/models/echo/versions/1.0.0")
        gateway.client.get("/v2/models/models/ready")
        gateway.client.get("/nowhere/at/all")
        gateway.ask("a secret boom")
    found = spans(exporter)
    assert {"GET /v2/models/{family}/versions/{version}", "GET /v2/models/{family}/ready", "GET"} <= found.keys()
    assert found["POST /v1/ask"].status.status_code is StatusCode.ERROR
    model = found["model"]
    assert model.status.status_code is StatusCode.ERROR and model.attributes is not None
    assert model.attributes["error.type"] == "RuntimeError" and not model.events
    assert "echo broke" not in model.to_json()


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_it_is_off_unless_the_environment_names_where_to_send_traces(environ: dict[str, str], wanted: bool) -> None:
    assert tracing_wanted(environ) is wanted
    if not wanted:
        assert Tracing.from_env(environ) is None


def test_what_is_missing_for_it_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="not grpc"):
        tracing_wanted({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match="not installed") as caught:
        tracing_wanted(ENDPOINT)
    assert "windtunnel[tracing]" in caught.value.hint
