"""OpenTelemetry traces of requests, where the environment asks for them (`OTEL_EXPORTER_OTLP_ENDPOINT` and its like).

A request is a span of the trace that its client's `traceparent` names, and the model's call one inside it. All settings
(endpoint, headers, sampling, service name, propagators) are the SDK's own variables; without any of them nothing is
imported and nothing is paid. Needs the extra `tracing`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from include.errors import UserError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from include.serving.tally import Place
    from include.serving.visit import Visit

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_SERVICE = "windtunnel-gateway"
_FIRST_FAILURE = 500
_FIRST_PARAMETER = 3  # segments of a path before one that may be a parameter: "", "v2", "models"


def tracing_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces.

    Raises:
        UserError: It does, and the libraries are missing or cannot speak the protocol that it names.
    """
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if off or not any(environ.get(name) for name in _ENDPOINTS):
        return False
    where = next(name for name in _ENDPOINTS if environ.get(name))
    for name in _PROTOCOLS:
        if environ.get(name, "http/protobuf") != "http/protobuf":
            raise UserError(f"the gateway exports http/protobuf, not {environ[name]}", where=name, hint="leave it out")
    try:
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    except ModuleNotFoundError as error:
        missing = [str(error.name)]
    if missing:
        raise UserError(
            f"traces need {missing[0]}, which is not installed", where=where, hint="pip install 'windtunnel[tracing]'"
        )
    return True


class Tracing:
    """Makes spans; used on the event loop's thread."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import propagate, trace

        self._provider = provider
        self._tracer = provider.get_tracer(_SERVICE)
        self._extract = propagate.extract
        self._server = trace.SpanKind.SERVER
        self._error = trace.StatusCode.ERROR

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Tracing | None:
        """Tracing with the SDK's own exporter, None where nothing asks for it. Raises as `tracing_wanted`."""
        if not tracing_wanted(environ):
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        named = {} if environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: _SERVICE}
        provider = TracerProvider(resource=Resource.create(named))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    @contextmanager
    def request(self, scope: MutableMapping[str, Any], visit: Visit) -> Iterator[None]:
        """The span of a request; gives the visit the ids by which its log line and its trace are put together."""
        context = None
        if visit.trace is not None:
            context = self._extract(
                {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            )
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with self._tracer.start_as_current_span(
            scope["method"], context=context, kind=self._server, attributes=attributes
        ) as span:
            identity = span.get_span_context()
            visit.trace = (f"{identity.trace_id:032x}", f"{identity.span_id:016x}")
            yield
            if "path_params" in scope:
                route = _route(scope["path"], scope["path_params"])
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", visit.status)
            span.set_attribute("windtunnel.request_id", visit.request_id)
            if visit.client is not None and visit.client.digests:
                span.set_attribute("windtunnel.client", visit.client.name)
            if visit.status >= _FIRST_FAILURE:
                span.set_status(self._error)

    @contextmanager
    def model(self, place: Place, rows: int) -> Iterator[None]:
        """The span of a model's answer, its waiting included."""
        attributes = {
            "windtunnel.family": place.family,
            "windtunnel.version": place.version,
            "windtunnel.role": place.role.value,
            "windtunnel.generation": place.generation,
            "windtunnel.rows": rows,
        }
        # what the model raised may quote what it was asked, which belongs into no trace
        with self._tracer.start_as_current_span(
            "model", attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Exception as error:
                span.set_status(self._error)
                span.set_attribute("error.type", type(error).__name__)
                raise

    def close(self) -> None:
        """Exports what is left."""
        self._provider.shutdown()


def _route(path: str, parameters: Mapping[str, str]) -> str:
    """The path as its route has it: `/v2/models/{family}`."""
    segments = path.split("/")
    for name, value in parameters.items():
        if value in segments[_FIRST_PARAMETER:]:
            segments[segments.index(value, _FIRST_PARAMETER)] = f"{{{name}}}"
    return "/".join(segments)
