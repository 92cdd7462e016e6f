"""Runs one function in several processes that train together, and lets none of them outlive the others.

The processes are forked from one that has the heavy libraries imported, so that they start at once and share that
memory. If one dies, all are killed. If the parent dies, even by `kill -9`, each of them notices within half a second
and ends. Where several pods train one model, each has a parent like this, and `include.training.gang` is between them.

SIGTERM is blocked in them and handled here: `Stop` lets them agree on the step after which they save and leave, without
talking to each other at every step.
"""

from __future__ import annotations

import json
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from include.errors import FailureKind, WindtunnelError, clip
from include.training.gang import Gang, membership
from include.training.gang_board import is_echo
from include.training.node import Meeting, Node
from include.training.stop import Stop, Stopped, context

EXIT_FAILED, EXIT_STOPPED = 1, 75
_POLL_SECONDS = 0.1
_ORPHAN_SECONDS = 0.5


class RankError(WindtunnelError):
    """A training process failed or died; `fields["rank"]` says which."""


@dataclass(frozen=True)
class Rank:
    """One process of a training.

    Attributes:
        number, world: Among all processes, of all nodes.
        local, node: Among those of its node, and which node that is.
        meeting: Where the processes of several nodes meet.
    """

    number: int
    world: int
    threads: int
    scratch: Path
    stop: Stop
    local: int = 0
    node: int = 0
    meeting: Meeting | None = None


def run_ranks(
    work: Callable[[Rank], None],
    devices: int,
    threads: int,
    scratch: Path,
    idle: Callable[[], None] = lambda: None,
    gang: Gang | None = None,
) -> None:
    """Runs `work` in `devices` processes and returns when all of them are done.

    Args:
        scratch: An empty folder for this attempt.
        idle: Called about ten times a second while waiting.
        gang: Where other pods run as many processes of the same training.

    Raises:
        Stopped: SIGTERM came, to this node or another, and they left after saving.
        RankError: One of them failed; of the kind that its own error was.
        RendezvousError, GangError: Other nodes did not come, or failed.
    """
    stop = Stop(gang.node.nodes if gang else 1)
    with _on_sigterm(stop.request), membership(gang, stop) if gang else nullcontext():
        processes = _processes(work, devices, threads, scratch, stop, gang)
        bad = _run(processes, idle, stop, gang)
        if bad:
            raise _failure(bad, scratch)
        if stop.requested:
            raise Stopped("training was asked to stop", hint="start it again: it goes on from its last checkpoint")


def _processes(
    work: Callable[[Rank], None], devices: int, threads: int, scratch: Path, stop: Stop, gang: Gang | None
) -> dict[int, Any]:
    """The processes by the numbers of their ranks, not started yet."""
    node, meeting = (gang.node, gang.meeting) if gang else (Node(), None)
    world, first = node.nodes * devices, node.rank * devices
    return {
        first + local: context().Process(
            target=_enter,
            args=(work, Rank(first + local, world, threads, scratch, stop, local, node.rank, meeting), os.getpid()),
            name=f"rank-{first + local}",
        )
        for local in range(devices)
    }


def _run(processes: dict[int, Any], idle: Callable[[], None], stop: Stop, gang: Gang | None) -> dict[int, int]:
    """Starts the processes and waits until all have ended, or one has ended badly; then none of them is left.

    Returns the exit codes of those that ended badly by themselves. Raises `GangError` where another node ended badly.
    """
    try:
        for process in processes.values():
            process.start()
        if gang is not None:
            gang.meet(stop)
        return _wait(processes, idle, gang)
    finally:
        for process in processes.values():
            if process.pid is not None and process.is_alive():
                process.kill()
        for process in processes.values():
            if process.pid is not None:
                process.join()


def _wait(processes: dict[int, Any], idle: Callable[[], None], gang: Gang | None) -> dict[int, int]:
    while True:
        alive = [process.sentinel for process in processes.values() if process.exitcode is None]
        multiprocessing.connection.wait(alive, timeout=_POLL_SECONDS)
        idle()
        codes = {number: process.exitcode for number, process in processes.items()}
        bad = {number: code for number, code in codes.items() if code not in (None, 0, EXIT_STOPPED)}
        if bad or None not in codes.values():
            return bad
        if gang is not None and gang.trouble is not None:
            raise gang.trouble


def _failure(bad: dict[int, int], scratch: Path) -> WindtunnelError:
    """The error of the rank that failed first: what a rank tells of itself, then who was killed, and last what a rank
    tells of the connections that it lost to them."""
    files = sorted(scratch.glob("error-*.json"), key=lambda path: path.stat().st_mtime)
    told = sorted((json.loads(path.read_text()) for path in files), key=lambda record: is_echo(record["message"]))
    killed = [(number, code) for number, code in sorted(bad.items()) if code < 0]
    if told and not (killed and is_echo(told[0]["message"])):
        record = told[0]
        error = RankError(record["message"], where=record["where"], hint=record["hint"], rank=record["rank"])
        error.kind = FailureKind(record["kind"])
        return error
    number, code = (killed or sorted(bad.items()))[0]
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    return RankError(
        f"training process {number} {how}", hint="try again: training goes on from its last checkpoint", rank=number
    )


def _enter(work: Callable[[Rank], None], rank: Rank, parent: int) -> None:
    """The life of a rank's process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    try:
        work(rank)
    except Stopped:
        os._exit(EXIT_STOPPED)
    except BaseException as error:  # the edge of the process: whatever it was, the parent must learn it
        _tell(error, rank)
        os._exit(EXIT_FAILED)
    sys.stdout.flush()
    os._exit(0)  # without the libraries' exit handlers, some of which wait for peers


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_ORPHAN_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _tell(error: BaseException, rank: Rank) -> None:
    import traceback

    if isinstance(error, WindtunnelError):
        record = error.to_json()
    else:
        traceback.print_exc()
        record = {
            "kind": FailureKind.SYSTEM.value,
            "message": clip(f"{type(error).__name__}: {error}"),
            "where": "",
            "hint": "",
        }
    sys.stdout.flush()
    temporary = rank.scratch / f"error-{rank.number}.tmp"
    temporary.write_text(json.dumps({**record, "rank": rank.number}, default=str))
    temporary.rename(rank.scratch / f"error-{rank.number}.json")


@contextmanager
def _on_sigterm(action: Callable[[], None]) -> Iterator[None]:
    """Calls `action` on SIGTERM meanwhile. Signals reach the main thread only; elsewhere nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        action()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
