"""A worker's place in the gateway: the board that it reads, and its line to the supervisor."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

from include.serving.board import Board
from include.serving.crew import Crew, Report

_READ_BYTES = 4096


class Seat(Protocol):
    """What a worker has of the gateway that it is part of."""

    board: Board
    slot: int

    def report(self, report: Report) -> None:
        """Tells the supervisor."""
        ...

    def wait(self, seconds: float) -> None:
        """Returns when the board changed, or after `seconds`."""
        ...

    def wake(self) -> None:
        """Ends a `wait` of another thread."""
        ...


class AloneSeat:
    """The seat of a process that is a gateway by itself, without a supervisor."""

    def __init__(self) -> None:
        self.board = Board(1)
        self.slot = 0
        self._crew = Crew(self.board)
        self._crew.started(0)
        self._woken = threading.Event()

    def report(self, report: Report) -> None:
        self._crew.reported(0, report)
        self.board.publish(self._crew.to_json())

    def wait(self, seconds: float) -> None:
        self._woken.wait(seconds)
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()


class WorkerSeat:
    """The seat of a worker process.

    Args:
        line: Connected to the supervisor: reports go out as lines of JSON, a byte comes in when the board changed, and
            its end says that the supervisor is gone.
        orphaned: Called once when that happens.
    """

    def __init__(self, board: Board, slot: int, line: socket.socket, orphaned: Callable[[], None]) -> None:
        self.board = board
        self.slot = slot
        self._line = line
        self._orphaned = orphaned
        self._alone = False
        self._wakes, self._waker = socket.socketpair()

    def report(self, report: Report) -> None:
        if not self._alone:
            try:
                self._line.sendall(json.dumps(asdict(report)).encode() + b"\n")
            except OSError:
                self._end()

    def wait(self, seconds: float) -> None:
        if self._alone:
            time.sleep(seconds)
            return
        ready, _, _ = select.select([self._line, self._wakes], [], [], seconds)
        for line in ready:
            try:
                data = line.recv(_READ_BYTES)
            except OSError:
                data = b""
            if not data:
                self._end()

    def wake(self) -> None:
        self._waker.send(b"w")

    def _end(self) -> None:
        if not self._alone:
            self._alone = True
            self._orphaned()


def read_report(line: bytes) -> Report:
    """A report as `WorkerSeat.report` wrote it."""
    record = json.loads(line)
    loading = record.pop("loading")
    return Report(**record, loading=(str(loading[0]), int(loading[1])) if loading else None)
