"""What every request passes on its way in and out: an id, who asks, and whether there is room.

A request has two ids. Its own cannot be guessed, because whoever knows it may label the answer; the one in the response
header `X-Request-Id` is the client's own where it sent one, so that both sides' logs can be put side by side.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from include.serving.gateway import Gateway
from include.serving.keys import Client, find_client
from include.serving.logs import RequestLog
from include.serving.peers import new_request_id
from include.serving.visit import VISIT, Visit
from include.serving.wire import RequestError, error_reply

OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})  # probes carry no key
_NO_SPAN: AbstractContextManager[None] = nullcontext()
_ID = re.compile(rb"^[A-Za-z0-9._:/=+-]{1,128}$")
_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")


class Edge:
    """The outermost part of the application."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway
        self._clients = gateway.config.clients
        self._log = RequestLog(gateway.config)
        self._slot = gateway.seat.slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = scope[VISIT] = _visit(scope, new_request_id(self._gateway.name, self._slot))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
                headers = [*message["headers"], (b"x-request-id", (visit.given_id or visit.request_id).encode())]
                if self._gateway.draining:  # the client's next request should go elsewhere
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        tracing = self._gateway.tracing
        try:
            with tracing.request(scope, visit) if tracing else _NO_SPAN:
                await self._pass(scope, receive, answer, visit)
        finally:
            self._log.write(scope["method"], scope["path"], visit)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, visit: Visit) -> None:
        try:
            visit.client = self._who(scope)
            if scope["method"] == "POST":
                with self._gateway.admission.pass_through(visit.client):
                    await self._app(scope, receive, send)
            else:  # what operators look at, also when nothing else goes through
                await self._app(scope, receive, send)
        except RequestError as refusal:
            await error_reply(refusal)(scope, receive, send)

    def _who(self, scope: Scope) -> Client:
        """Who asks; without keys that is an address.

        Raises:
            RequestError: There is no valid key (401).
        """
        if not self._clients or scope["path"] in OPEN_PATHS:
            return Client(scope["client"][0] if scope.get("client") else "")
        client = find_client(self._clients, scope["headers"])
        if client is None:
            raise RequestError(
                "an API key is needed",
                status=401,
                hint="send `Authorization: Bearer KEY`",
                headers={"www-authenticate": "Bearer"},
            )
        return client


def _visit(scope: Scope, request_id: str) -> Visit:
    given: bytes | None = None
    trace = None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ID.match(value):
            given = value
        elif name == b"traceparent" and (found := _TRACEPARENT.match(value.decode("latin-1"))):
            trace = (found[1], found[2])
    return Visit(request_id, given.decode() if given else None, trace, perf_counter())
