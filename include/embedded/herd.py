"""A parent and its children: starts them, notices when one ends, starts it again, and ends them all.

The same loop serves the stack's supervisor (whose children are programs) and the Airflow host (whose children are forks
of itself). It owns `waitpid`, so that no zombie is left where process 1 does not reap.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from include.embedded.processes import ProcessId, descendants, end_all, signal_group


class ChildState(str, Enum):
    """Where a child is in its life."""

    WAITING = "waiting"  # will be started (again) soon
    RUNNING = "running"
    FAILED = "failed"  # ended too often too soon: it is not started again
    STOPPED = "stopped"


#: A child that lived this long had come up: when it ends now, starting it again makes sense.
CAME_UP_SECONDS = 20.0
#: Quick ends in a row that are forgiven to a child that had come up once.
FORGIVEN = 3


@dataclass
class Child:
    """One child.

    Attributes:
        spawn: Starts it and returns its process id; the child leads a process group of its own.
        quick_ends: How often in a row it ended soon after its start.
        came_up: It once lived for `CAME_UP_SECONDS`.
    """

    name: str
    spawn: Callable[[], int]
    state: ChildState = ChildState.WAITING
    process: ProcessId | None = None
    started_at: float = 0.0
    starts: int = 0
    quick_ends: int = 0
    came_up: bool = False
    exit_code: int | None = None
    not_before: float = field(default=0.0, repr=False)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.state is ChildState.RUNNING else None


class Herd:
    """The children of this process. Not thread-safe; `run` belongs in the main thread.

    Args:
        on_change: Called after the state of any child changed.
        poll_seconds: How often children are looked after.
    """

    def __init__(self, on_change: Callable[[Herd], None] | None = None, poll_seconds: float = 0.1) -> None:
        self.children: dict[str, Child] = {}
        self._on_change = on_change or (lambda herd: None)
        self._poll_seconds = poll_seconds
        self._stopping = False

    def add(self, name: str, spawn: Callable[[], int]) -> Child:
        """Adds a child and starts it."""
        child = Child(name, spawn)
        self.children[name] = child
        self._start(child)
        self._on_change(self)
        return child

    def handle_signals(self) -> None:
        """SIGTERM and SIGINT end `run`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.ask_to_stop())

    def ask_to_stop(self) -> None:
        self._stopping = True

    @property
    def stopping(self) -> bool:
        return self._stopping

    def run(self, until: Callable[[Herd], bool] = lambda herd: False) -> None:
        """Looks after the children until a signal, `ask_to_stop`, or `until(herd)`."""
        while not self._stopping and not until(self):
            self.look()
            time.sleep(self._poll_seconds)

    def look(self) -> None:
        """Reaps what ended and starts again what is due."""
        changed = self.reap()
        now = time.monotonic()
        for child in self.children.values():
            if child.state is ChildState.RUNNING and now - child.started_at > CAME_UP_SECONDS:
                child.came_up, child.quick_ends = True, 0
            if child.state is ChildState.WAITING and now >= child.not_before and not self._stopping:
                self._start(child)
                changed = True
        if changed:
            self._on_change(self)

    def reap(self) -> bool:
        """Collects ended processes, orphans included; whether a child was among them."""
        found = False
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                for child in self.children.values():
                    if child.process and child.process.pid == pid and child.state is ChildState.RUNNING:
                        self._ended(child, os.waitstatus_to_exitcode(status))
                        found = True
        return found

    def stop(self, grace: float, nudge_after: float | None = None) -> int:
        """Ends all children and everything below them; returns how many processes had to be killed.

        Children get SIGTERM at once, and once more after `nudge_after` seconds (Airflow's scheduler waits for running
        tasks at the first). What is left of their descendants then gets SIGTERM, and SIGKILL after the grace.
        """
        self._stopping = True
        deadline, nudge = time.monotonic() + grace, time.monotonic() + (nudge_after or 2 * grace)
        self._tell_children(signal.SIGTERM)
        while self._running() and time.monotonic() < deadline:
            if time.monotonic() >= nudge:
                self._tell_children(signal.SIGTERM)
                nudge = deadline + 1
            self.reap()
            time.sleep(0.03)
        killed = end_all(descendants(), max(0.5, deadline - time.monotonic()), self.reap)
        for child in self._running():
            signal_group(child.process.pid if child.process else 0, signal.SIGKILL)
        last = time.monotonic() + 2
        while descendants() and time.monotonic() < last:
            self.reap()
            time.sleep(0.02)
        self.reap()
        for child in self.children.values():
            if child.state is not ChildState.FAILED:
                child.state = ChildState.STOPPED
        self._on_change(self)
        return killed

    def _running(self) -> list[Child]:
        return [child for child in self.children.values() if child.state is ChildState.RUNNING]

    def _tell_children(self, number: int) -> None:
        for child in self._running():
            if child.process:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.process.pid, number)

    def _start(self, child: Child) -> None:
        pid = child.spawn()
        child.process = ProcessId.of(pid)
        child.state, child.started_at, child.exit_code = ChildState.RUNNING, time.monotonic(), None
        child.starts += 1

    def _ended(self, child: Child, code: int) -> None:
        lived = time.monotonic() - child.started_at
        child.exit_code = code
        if child.process:
            signal_group(child.process.pid, signal.SIGKILL)  # what it left behind would hold its port
        if self._stopping:
            child.state = ChildState.STOPPED
            return
        child.came_up = child.came_up or lived > CAME_UP_SECONDS
        child.quick_ends = 0 if lived > CAME_UP_SECONDS else child.quick_ends + 1
        if not child.came_up or child.quick_ends > FORGIVEN:
            child.state = ChildState.FAILED
            return
        child.state = ChildState.WAITING
        child.not_before = time.monotonic() + min(2.0**child.quick_ends * 0.25, 5.0)
