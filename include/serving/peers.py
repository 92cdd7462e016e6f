"""Feedback finds the worker that gave the answer: the workers of a gateway pass it on over sockets of their own.

An answer is remembered by the process that gave it: the end of a request id names its gateway and its slot there. The
sockets lie in a folder that only this user can enter; one JSON line goes each way.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from include.serving.wire import RequestError

_RANDOM_BYTES = 15
_SLOT_AT = 2 * _RANDOM_BYTES
_GATEWAY = re.compile(rf"^[0-9a-f]{{{_SLOT_AT + 2}}}([0-9a-f]{{8}})(\.\d+)?$")
_LINE_BYTES = 4 << 20
_GONE = "the worker that gave this answer cannot be reached"

Give = Callable[[str, Mapping[str, Any] | None, bool | None], Awaitable[dict[str, Any]]]


def new_request_id(gateway: str, slot: int) -> str:
    """A request id that cannot be guessed (whoever knows it may label the answer), and that tells who answered.

    Args:
        gateway: The gateway's name, 8 hexadecimal digits.
    """
    return f"{os.urandom(_RANDOM_BYTES).hex()}{slot:02x}{gateway}"


def slot_of(request_id: str) -> int | None:
    """The slot of the worker that made this id; None where it is none of ours."""
    try:
        return int(request_id[_SLOT_AT : _SLOT_AT + 2], 16)
    except ValueError:
        return None


def gateway_of(request_id: str) -> str | None:
    """The name of the gateway that made this id; None where it is none of ours."""
    found = _GATEWAY.match(request_id)
    return found[1] if found else None


class Peers:
    """This worker's socket, and its way to those of the others.

    Args:
        folder: Where the sockets of the gateway's workers lie.
        give: What to do with feedback on an answer of this worker.
        seconds: How long another worker may take.
    """

    def __init__(self, folder: Path, slot: int, slots: int, give: Give, seconds: float) -> None:
        self._folder = folder
        self._slot = slot
        self._slots = slots
        self._give = give
        self._seconds = seconds
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens; the socket of a process that had this slot before is replaced."""
        path = self._path(self._slot)
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path, limit=_LINE_BYTES)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path(self._slot).unlink(missing_ok=True)

    def elsewhere(self, request_id: str) -> int | None:
        """The slot of the other worker that gave this answer; None where it is this one's, or nobody's."""
        slot = slot_of(request_id)
        return slot if slot is not None and slot != self._slot and slot < self._slots else None

    async def pass_on(
        self, slot: int, request_id: str, truth: Mapping[str, Any] | None, helpful: bool | None
    ) -> dict[str, Any]:
        """What the worker in `slot` says to the feedback.

        Raises:
            RequestError: What it refuses the feedback with, or it cannot be reached (503).
        """
        question = {"request_id": request_id, "truth": truth, "helpful": helpful}
        try:
            async with asyncio.timeout(self._seconds):
                reply = await self._exchange(slot, json.dumps(question).encode())
        except (OSError, ValueError, TimeoutError):  # it died, or starts again at this moment
            raise RequestError(_GONE, status=503, retry_after=1, hint="try again in a moment") from None
        if refused := reply.get("refused"):
            raise RequestError(refused["message"], status=refused["status"], hint=refused["hint"])
        return dict(reply["given"])

    async def _exchange(self, slot: int, line: bytes) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(self._path(slot), limit=_LINE_BYTES)
        try:
            writer.write(line + b"\n")
            await writer.drain()
            answer: dict[str, Any] = json.loads(await reader.readline())
            return answer
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, KeyError):  # it died, or sent no line of ours
            asked = json.loads(await reader.readline())
            try:
                given = await self._give(asked["request_id"], asked["truth"], asked["helpful"])
                reply: dict[str, Any] = {"given": given}
            except RequestError as error:
                reply = {"refused": {"message": error.message, "status": error.status, "hint": error.hint}}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        writer.close()

    def _path(self, slot: int) -> Path:
        return self._folder / f"{slot}.sock"
