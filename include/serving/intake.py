"""Takes a request's body in: bounded in size and time, and without holding up the requests beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from include.serving.config import GatewayConfig
from include.serving.threads import SideWork
from include.serving.visit import visit_of
from include.serving.wire import RequestError

_LARGE = 32 << 10  # bytes; taking this much apart costs about a millisecond
_LARGE_WAITING = 64
_MAX_QUOTE = 2000
Taken = TypeVar("Taken")


class Intake:
    """Reads bodies, and takes them apart: small ones at once, large ones beside the event loop, one at a time."""

    def __init__(self, config: GatewayConfig) -> None:
        self._limit = config.max_body
        self._seconds = config.read_seconds
        self._quote = config.log_payloads
        # one thread: it shares the interpreter with the event loop, whose small requests must not wait for it
        self._large = SideWork("large body", 1, max_waiting=_LARGE_WAITING, seconds=config.answer_seconds)

    async def take(self, request: Request, apart: Callable[[Request, bytes], Taken]) -> Taken:
        """What `apart` makes of the body.

        Raises:
            RequestError: The body is too large (413), too slow (408), encoded (415) or broken off (400); too many large
                ones wait (503); or whatever `apart` raises.
        """
        body = await _read_body(request, self._limit, self._seconds)
        if self._quote:
            visit_of(request.scope).payload = body[:_MAX_QUOTE].decode(errors="replace")
        if len(body) <= _LARGE:
            return apart(request, body)
        return await self._large.run(apart, request, body)


async def _read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The body, if it has at most `limit` bytes and comes within `seconds`.

    Raises:
        RequestError: It is larger (413), encoded (415), too slow (408), or the client went away.
    """
    headers = request.headers
    if headers.get("content-encoding", "identity") != "identity":
        raise RequestError("compressed bodies are not accepted", status=415, hint="send plain JSON")
    length = headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except ClientDisconnect:
        raise RequestError("the client went away before its request was complete", status=400) from None
    except TimeoutError:
        raise RequestError(f"the body did not come within {seconds:g} s", status=408) from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> RequestError:
    return RequestError(f"the body is larger than {limit} bytes", status=413, hint="send fewer or shorter questions")
