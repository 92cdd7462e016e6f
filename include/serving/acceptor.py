"""Takes connections from a listening socket that several workers share, each about as many as the others.

A kernel gives waiting connections to whichever process asks first, and clients keep their connections for long: without
balance, one worker may end up with all of them. So a worker with more connections than another live one lets that one
go first, for a few milliseconds at most.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

from include.serving.board import Board, Column

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.02
_BEAT_SECONDS = 1.0
_GIVE_WAY_SECONDS = 0.002
_GIVE_WAY_TIMES = 3
_NO_FILES_SECONDS = 0.2


class Acceptor:
    """Accepts on the running event loop while this worker is live.

    Args:
        connections: uvicorn's set of open connections.
    """

    def __init__(
        self,
        listener: socket.socket,
        board: Board,
        slot: int,
        protocol: Callable[[], asyncio.Protocol],
        connections: set[Any],
    ) -> None:
        self._listener = listener
        self._board = board
        self._slot = slot
        self._protocol = protocol
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._gave_way = 0
        self._stopped = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._beat()
        self._when_live()

    def stop(self) -> None:
        """Takes no more connections; those that wait are another worker's."""
        self._stopped = True
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()

    def _beat(self) -> None:
        """Shows the supervisor that the event loop runs."""
        self._board.write(self._slot, Column.BEAT, int(monotonic() * 1e3))
        self._loop.call_later(_BEAT_SECONDS, self._beat)

    def _when_live(self) -> None:
        if self._stopped:
            return
        if self._board.read(self._slot, Column.LIVE):
            self._listen()
        else:
            self._loop.call_later(_LOOK_SECONDS, self._when_live)

    def _listen(self) -> None:
        if not self._stopped:
            self._loop.add_reader(self._listener.fileno(), self._ready)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_later(seconds, self._listen)

    def _ready(self) -> None:
        """A connection waits (or did, before another worker took it)."""
        own = self._count()
        board = self._board
        others = [board.read(slot, Column.CONNECTIONS) for slot in board.live if slot != self._slot]
        if others and own > min(others) and self._gave_way < _GIVE_WAY_TIMES:
            self._gave_way += 1
            self._pause(_GIVE_WAY_SECONDS)
            return
        self._gave_way = 0
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # no more files may be open: the connection waits until some are closed
            log.warning("a connection cannot be taken: %s", error)
            self._pause(_NO_FILES_SECONDS)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        board.write(self._slot, Column.CONNECTIONS, own + 1)
        task = self._loop.create_task(self._take(connection))
        self._tasks.add(task)
        task.add_done_callback(self._taken)

    async def _take(self, connection: socket.socket) -> None:
        await self._loop.connect_accepted_socket(self._protocol, connection)

    def _taken(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.warning("a connection was lost before its first request: %s", error)

    def _count(self) -> int:
        count = len(self._connections) + len(self._tasks)
        self._board.write(self._slot, Column.CONNECTIONS, count)
        return count


class CountedConnections(set[Any]):
    """uvicorn's set of open connections, which tells the board how many there are."""

    def __init__(self, board: Board, slot: int) -> None:
        super().__init__()
        self._board = board
        self._slot = slot

    def discard(self, connection: Any) -> None:
        super().discard(connection)
        self._board.write(self._slot, Column.CONNECTIONS, len(self))
