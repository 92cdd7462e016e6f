"""The process that a gateway is started as: it forks the workers, replaces those that die, and stops them all.

It serves nothing itself and loads no model, so nothing that a model does can harm it, and a worker is there again a
moment after it died: everything that is imported here is shared with the workers, and so is the listening socket, on
which clients wait meanwhile.
"""

from __future__ import annotations

import logging
import multiprocessing
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.context import ForkProcess
from typing import Any

from include.errors import WindtunnelError
from include.serving.board import Board, Column
from include.serving.crew import Crew
from include.serving.seat import read_report

log = logging.getLogger(__name__)

EXIT_FAILED, EXIT_USAGE = 1, 2
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_TICK_SECONDS = 0.5
_SHORT_LIFE = 5.0  # a worker that did not live longer is replaced ever more slowly
_PAUSE_FIRST, _PAUSE_MOST = 0.1, 5.0
_KILL_AFTER = 15.0  # what a worker may take to end beyond the time for requests in flight
_BEHIND_LEAST = 30.0
_LINE_BYTES = 1 << 16

Work = Callable[[int, socket.socket], None]


@dataclass
class _Worker:
    """A slot and the process in it.

    Attributes:
        again_at: When a new process is started, where there is none (monotonic seconds).
        behind_since: Since when it holds up a routing table that others have loaded.
    """

    slot: int
    process: ForkProcess | None = None
    line: socket.socket | None = None
    buffer: bytes = b""
    started: float = 0.0
    started_at: str = ""
    restarts: int = 0
    early_deaths: int = 0
    last_exit: str = ""
    again_at: float = 0.0
    behind_since: float | None = None
    loading_since: tuple[tuple[str, int], float] | None = field(default=None)


class Supervisor:
    """Keeps `board.slots` workers running until it is told to stop.

    Args:
        work: What a worker process does, with `STOP_SIGNALS` blocked; gets its slot and its line to the supervisor.
        close: Closes the listening socket, so that nobody waits there for a gateway that stops.
        grace: How long a worker may take to end, seconds.
        hang: How long the event loop of a worker may stand still before it is killed, seconds.
        load: How long the loading of a routing table may take before the worker is killed, seconds.
    """

    def __init__(
        self, board: Board, work: Work, close: Callable[[], None], *, grace: float, hang: float, load: float
    ) -> None:
        self._board = board
        self._crew = Crew(board)
        self._work = work
        self._close = close
        self._grace = grace
        self._hang = hang
        self._load = load
        self._workers = [_Worker(slot) for slot in range(board.slots)]
        self._selector = selectors.DefaultSelector()
        self._fork = multiprocessing.get_context("fork")
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)
        self._stop_at: float | None = None
        self._failed = False

    def run(self) -> int:
        """Returns the exit status: 0 when it was told to stop and every worker ended well."""
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for name in STOP_SIGNALS:
            signal.signal(name, self._told_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the loop
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        while True:
            self._start_missing()
            for key, _ in self._selector.select(_TICK_SECONDS):
                self._hear(key.data) if key.data is not None else self._wake_read.recv(_LINE_BYTES)
            self._bury()
            self._check()
            if self._stop_at is not None and not any(worker.process for worker in self._workers):
                return EXIT_FAILED if self._failed else 0

    def _told_to_stop(self, *_: Any) -> None:
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self._grace + _KILL_AFTER
            self._close()
            for worker in self._workers:
                if worker.process is not None:
                    worker.process.terminate()

    def _start_missing(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is None and self._stop_at is None and now >= worker.again_at:
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        ours, theirs = socket.socketpair()
        process = self._fork.Process(
            target=self._in_worker, args=(worker.slot, theirs, ours), name=f"gateway-worker-{worker.slot}"
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # a worker unblocks them when it can deal with them
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        theirs.close()
        ours.setblocking(False)
        now = time.monotonic()
        worker.process, worker.line, worker.buffer = process, ours, b""
        worker.started, worker.started_at = now, datetime.now(UTC).isoformat()
        worker.behind_since = worker.loading_since = None
        self._board.write(worker.slot, Column.PID, process.pid or 0)
        self._board.write(worker.slot, Column.BEAT, 0)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        self._crew.started(worker.slot)
        self._publish()

    def _in_worker(self, slot: int, line: socket.socket, ours: socket.socket) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for other in (ours, self._wake_read, self._wake_write, *(worker.line for worker in self._workers)):
            if other is not None:
                other.close()
        self._work(slot, line)

    def _hear(self, worker: _Worker) -> None:
        """Takes in what a worker says."""
        assert worker.line is not None  # it is registered only while it is open
        try:
            data = worker.line.recv(_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # it ended, or is about to; `_bury` does the rest
            self._selector.unregister(worker.line)
            worker.line.close()
            worker.line = None
            return
        *lines, worker.buffer = (worker.buffer + data).split(b"\n")
        for line in lines:
            try:
                self._crew.reported(worker.slot, read_report(line))
            except WindtunnelError as error:
                log.error("%s", error)
        if lines:
            self._publish()

    def _bury(self) -> None:
        """Notes which workers ended."""
        for worker in self._workers:
            if worker.process is None or worker.process.is_alive():
                continue
            code = worker.process.exitcode or 0
            worker.process.join()
            worker.process.close()
            worker.process = None
            if worker.line is not None:
                self._selector.unregister(worker.line)
                worker.line.close()
                worker.line = None
            now = time.monotonic()
            self._crew.died(worker.slot, now)
            if self._stop_at is not None:
                self._failed = self._failed or code != 0
            else:
                self._note_death(worker, code, now)
            self._publish()

    def _note_death(self, worker: _Worker, code: int, now: float) -> None:
        worker.last_exit = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        worker.early_deaths = worker.early_deaths + 1 if now - worker.started < _SHORT_LIFE else 0
        pause = min(_PAUSE_FIRST * 2 ** (worker.early_deaths - 1), _PAUSE_MOST) if worker.early_deaths else 0.0
        worker.again_at = now + pause
        worker.restarts += 1
        log.error("worker %d ended (%s); it is replaced", worker.slot, worker.last_exit)

    def _check(self) -> None:
        """Kills workers that no longer work."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is not None and (reason := self._hopeless(worker, now)):
                log.error("worker %d is killed: %s", worker.slot, reason)
                worker.process.kill()

    def _hopeless(self, worker: _Worker, now: float) -> str:
        if self._stop_at is not None:
            return "it did not stop in time" if now > self._stop_at else ""
        beat = self._board.read(worker.slot, Column.BEAT)
        if beat and now - beat / 1e3 > self._hang:
            return f"its event loop has stood still for {self._hang:g} s"
        loading = self._crew.loading(worker.slot)
        if loading is None:
            worker.loading_since = None
        elif worker.loading_since is None or worker.loading_since[0] != loading:
            worker.loading_since = (loading, now)
        elif now - worker.loading_since[1] > self._load:
            return f"it has loaded {loading[0]} generation {loading[1] // 2} for {self._load:g} s"
        if not self._crew.behind(worker.slot):
            worker.behind_since = None
        elif worker.behind_since is None:
            worker.behind_since = now
        elif now - worker.behind_since > max(self._load / 2, _BEHIND_LEAST):
            return "it holds up a routing table that other workers have loaded"
        return ""

    def _publish(self) -> None:
        """Writes the status to the board, and tells the workers to look at it."""
        workers = [
            {
                "slot": worker.slot,
                "pid": worker.process.pid if worker.process else None,
                "started_at": worker.started_at,
                "restarts": worker.restarts,
                "last_exit": worker.last_exit or None,
            }
            for worker in self._workers
        ]
        self._board.publish({"workers": workers, **self._crew.to_json()})
        for worker in self._workers:
            if worker.line is not None:
                try:
                    worker.line.send(b"w")
                except OSError:  # it has a wake-up waiting already, or is gone
                    continue
