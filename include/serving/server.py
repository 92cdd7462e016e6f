"""The HTTP server: uvicorn, with bounds on what a connection may do and an orderly end.

uvicorn waits forever for the rest of a request's head, for a client that does not read its answer, and takes heads and
connections without end. Here all of them are bounded, so that no number of slow clients keeps others from being
answered. Told to stop, the server first says that it is not ready (`drain_seconds`), then takes nothing new, and ends
when the requests under way have been answered.
"""

from __future__ import annotations

import asyncio
import time
from types import FrameType
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from include.serving.app import make_app
from include.serving.config import GatewayConfig
from include.serving.gateway import Gateway

BACKLOG = 2048
_KEEP_ALIVE = 75  # longer than the idle time of the usual proxies, so that it is they who close
_MAX_HEAD = 64 << 10


def _canned(status: bytes, message: bytes) -> bytes:
    """A whole response, for what never becomes a request."""
    body = b'{"error":"' + message + b'"}'
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    return head % status + b"content-length: %d\r\n\r\n" % len(body) + body


_FULL = _canned(b"503 Service Unavailable", b"the gateway has too many clients")
_NO_REQUEST = _canned(b"400 Bad Request", b"this is no HTTP request")
_LARGE_HEAD = _canned(b"431 Request Header Fields Too Large", b"the head of the request is too large")


class GatewayServer(uvicorn.Server):
    """Serves a gateway's application until it is told to stop."""

    def __init__(self, gateway: Gateway) -> None:
        config = gateway.config
        super().__init__(
            uvicorn.Config(
                make_app(gateway),
                loop="uvloop",
                http=bounded(config),
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=int(config.grace_seconds),
            )
        )
        self._gateway = gateway
        self._leave_at = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first signal lets the gateway go out of service in good order, a second one does not wait for that."""
        if self._gateway.draining:
            super().handle_exit(sig, frame)
            return
        self._gateway.draining = True
        self._leave_at = time.monotonic() + self._gateway.config.drain_seconds

    async def on_tick(self, counter: int) -> bool:
        if time.monotonic() >= self._leave_at:
            self.should_exit = True
        return await super().on_tick(counter)


class BoundedProtocol(HttpToolsProtocol):
    """A connection that is closed when it sends its head too slowly, or does not take its answer."""

    limits: ClassVar[GatewayConfig]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_body = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            transport.write(_FULL)
            transport.close()
            return
        self.timeout_keep_alive_task = self.loop.call_later(_KEEP_ALIVE, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if not self._in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _MAX_HEAD and not self.transport.is_closing():
            self.transport.write(_LARGE_HEAD)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(_NO_REQUEST)
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_timer = self._limit(self._head_timer)

    def on_headers_complete(self) -> None:
        self._in_body, self._head_bytes = True, 0
        self._head_timer = _no_more(self._head_timer)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self._limit(self._write_timer)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_timer = _no_more(self._write_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer, self._write_timer = _no_more(self._head_timer), _no_more(self._write_timer)
        super().connection_lost(exc)

    def _limit(self, timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle:
        """A new timer in the place of `timer`; it ends the connection of a client that is too slow."""
        _no_more(timer)
        return self.loop.call_later(self.limits.read_seconds, self._too_slow)

    def _too_slow(self) -> None:
        self.transport.abort()


def _no_more(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Stops a timer; what is left of it."""
    if timer is not None:
        timer.cancel()
    return None


def bounded(config: GatewayConfig) -> type[BoundedProtocol]:
    """The protocol with the limits of a gateway."""
    return type("BoundedProtocol", (BoundedProtocol,), {"limits": config})
