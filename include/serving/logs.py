"""What the gateway writes to its log: one JSON object a line, without what was asked or answered.

Lines go through a bounded queue and a thread of their own: whoever collects them may be slow or stand still, and no
request waits for that; lines that find no room are counted and dropped. A request's line has its own id, the client's
(`X-Request-Id`) and the trace's (`traceparent`), so that it is found from all sides.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from time import perf_counter
from typing import TYPE_CHECKING, Any

from include.errors import clip
from include.serving.config import GatewayConfig
from include.serving.encoding import encode

if TYPE_CHECKING:
    from include.serving.visit import Visit

_QUEUE = 10_000
_CLOSE_SECONDS = 5.0
_MAX_TRACE = 8_000
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_FIRST_FAILURE, _TOO_MANY = 500, 429
requests = logging.getLogger("windtunnel.request")


class JsonLines(logging.Formatter):
    """A record as one JSON object: `at`, `level`, `logger`, `message`, and the fields that came with it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clip(record.getMessage(), _MAX_TRACE),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = clip(self.formatException(record.exc_info), _MAX_TRACE)
        return encode(line).decode()


class _Bounded(QueueHandler):
    """Never waits: a line that finds the queue full is dropped, and counted."""

    def __init__(self, lines: queue.Queue[Any]) -> None:
        super().__init__(lines)
        self.dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # formatted by the other thread, which is in the same process


class _Listener(QueueListener):
    """Ends also where the queue is full: the sign to end waits for room."""

    def enqueue_sentinel(self) -> None:
        self.queue.put(None)  # type: ignore[attr-defined] # typed as SimpleQueue or Queue, which differ here


def formatter(config: GatewayConfig) -> logging.Formatter:
    """Of all lines of a process."""
    return logging.Formatter(_TEXT) if config.log_format == "text" else JsonLines()


def log_directly(config: GatewayConfig) -> None:
    """Sets this process's log up, for one that serves no requests."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(config))
    _install(handler)


class ServingLog:
    """The log of a process that serves, from its start to `close`."""

    def __init__(self, config: GatewayConfig) -> None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter(config))
        lines: queue.Queue[Any] = queue.Queue(_QUEUE)
        self._handler = _Bounded(lines)
        self._listener = _Listener(lines, handler)
        self._listener.start()
        _install(self._handler)

    @property
    def dropped(self) -> int:
        """Lines that found no room."""
        return self._handler.dropped

    def close(self) -> None:
        """Writes what waits, and goes on without a thread; gives up where nobody takes the lines."""
        ending = threading.Thread(target=self._listener.stop, daemon=True)
        ending.start()
        ending.join(_CLOSE_SECONDS)
        if ending.is_alive():
            return
        _install(*self._listener.handlers)
        if self.dropped:
            logging.getLogger(__name__).warning("%d lines of this log found no room", self.dropped)


def _install(*handlers: logging.Handler) -> None:
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)


class RequestLog:
    """Writes a line for requests, as the configuration wants them."""

    def __init__(self, config: GatewayConfig) -> None:
        self._which = config.log_requests

    def write(self, method: str, path: str, visit: Visit) -> None:
        """A line for a request that was answered; the path is without its query."""
        failed = visit.status >= _FIRST_FAILURE or visit.status == _TOO_MANY
        if self._which == "none" or (self._which == "failed" and not failed):
            return
        fields: dict[str, Any] = {
            "request_id": visit.request_id,
            "client_request_id": visit.given_id,
            "trace_id": visit.trace[0] if visit.trace else None,
            "span_id": visit.trace[1] if visit.trace else None,
            "client": visit.client.name if visit.client else None,
            "model": visit.model,
            "method": method,
            "path": clip(path, 200),
            "status": visit.status,
            "ms": round((perf_counter() - visit.started) * 1e3, 3),
            "payload": visit.payload,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        level = logging.WARNING if failed else logging.INFO
        requests.log(level, "%s %s %d", method, fields["path"], visit.status, extra={"fields": given})
