"""Finding and ending processes without hitting a stranger: by start time, by descent, by the stack's mark."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

#: Variable in the environment of everything that a stack starts; its value is the stack's home folder.
MARK = "WINDTUNNEL_STACK"

_CLOCK_TOLERANCE = 2.0  # seconds: the start time is computed from the boot time, which a clock change can shift


@dataclass(frozen=True)
class ProcessId:
    """A process id that a recycled one cannot pass for: it holds the start time too (seconds since the epoch)."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The identity of a process that runs now. Raises `psutil.NoSuchProcess`."""
        return cls(pid, psutil.Process(pid).create_time())

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _CLOCK_TOLERANCE
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def send(self, number: int) -> None:
        """Sends a signal, if the process is still this one."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def listens(pid: int, port: int) -> bool:
    """Whether the process or one below it listens on `port`: an answer from there is then its answer.

    True where the system does not tell.
    """
    try:
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return False
    for member in tree:
        try:
            found = member.net_connections(kind="tcp")
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            return True
        if any(item.status == psutil.CONN_LISTEN and item.laddr.port == port for item in found):
            return True
    return False


def signal_group(group: int, number: int) -> None:
    """Sends a signal to a process group; nothing happens where it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def descendants() -> list[psutil.Process]:
    """All processes under this one, its zombies left out."""
    return [process for process in psutil.Process().children(recursive=True) if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def end_all(processes: Iterable[psutil.Process], grace: float, poll: Callable[[], Any] | None = None) -> int:
    """SIGTERM to all, SIGKILL after `grace` seconds to those that remain; returns how many had to be killed.

    `poll` is called while waiting, so that a parent can reap its children.
    """
    remaining = [process for process in processes if _runs(process)]
    for process in remaining:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while remaining and time.monotonic() < deadline:
        if poll:
            poll()
        time.sleep(0.05)
        remaining = [process for process in remaining if _runs(process)]
    for process in remaining:
        _signal(process, signal.SIGKILL)
    return len(remaining)


def _signal(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)


def leftovers(home: Path, *, keep: Callable[[psutil.Process], bool] | None = None) -> list[psutil.Process]:
    """Processes that a stack in `home` started and that still run, though no supervisor answers for them.

    A process counts when it has the stack's mark in its environment. Airflow's processes overwrite their environment
    with their title: one of these counts when a parent of it has the mark, or when it writes to a file in `home`. The
    caller and its parents never count.
    """
    own = {process.pid for process in psutil.Process().parents()} | {os.getpid()}
    marked: dict[int, psutil.Process] = {}
    titled: list[psutil.Process] = []
    for process in psutil.process_iter():
        if process.pid in own or not _runs(process):
            continue
        try:
            if process.environ().get(MARK) == str(home):
                marked[process.pid] = process
            elif " ".join(process.cmdline()[:1]).startswith("airflow "):
                titled.append(process)
        except (psutil.Error, OSError):
            continue
    with_mark = set(marked)
    for process in titled:
        if _belongs(process, with_mark, home):
            marked[process.pid] = process
    return [process for process in marked.values() if keep is None or not keep(process)]


def _belongs(process: psutil.Process, marked: set[int], home: Path) -> bool:
    """Whether a process that hides its environment is of this stack: its parents are, or it holds the stack's files."""
    with contextlib.suppress(psutil.Error, OSError):
        if any(parent.pid in marked for parent in process.parents()):
            return True
        return any(Path(file.path).is_relative_to(home) for file in process.open_files())
    return False
