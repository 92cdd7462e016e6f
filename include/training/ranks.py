"""Runs one function in several processes that train together, and lets none of them outlive the others.

The processes are forked from one that has the heavy libraries imported, so that they start at once and share that
memory; they meet through a file, so that no port is opened. If one dies, all are killed. If the parent dies, even by
`kill -9`, each of them notices within half a second and ends.

SIGTERM is blocked in them and handled here: `Stop` lets them agree on the step after which they save and leave, without
talking to each other at every step.
"""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from include.errors import FailureKind, WindtunnelError, clip

EXIT_FAILED, EXIT_STOPPED = 1, 75
_POLL_SECONDS = 0.1
_ORPHAN_SECONDS = 0.5


class RankError(WindtunnelError):
    """A training process failed or died; `fields["rank"]` says which."""


class Stopped(WindtunnelError):
    """Training was asked to stop; it saved a checkpoint and goes on from there when it is started again."""


def _context() -> Any:
    """Fork where it is safe; macOS' system libraries do not survive it."""
    return multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


@dataclass
class Stop:
    """The agreement to stop, in memory that all ranks share.

    Rank 0 sees a request after step s and names step s + 1. No other rank can end that step without rank 0, because
    gradients are exchanged in it, so all of them read the agreement in time.
    """

    _requested: Any = field(default_factory=lambda: _context().Value("b", 0))
    _at_step: Any = field(default_factory=lambda: _context().Value("q", -1))

    def request(self) -> None:
        self._requested.value = 1

    @property
    def requested(self) -> bool:
        return bool(self._requested.value)

    def due(self, step: int, rank: int, world: int) -> bool:
        """Whether this rank must save and leave after optimizer step `step`."""
        if rank == 0 and self.requested and self._at_step.value < 0:
            self._at_step.value = step + (1 if world > 1 else 0)
        return 0 <= int(self._at_step.value) <= step


@dataclass(frozen=True)
class Rank:
    """One process of a training."""

    number: int
    world: int
    threads: int
    scratch: Path
    stop: Stop


def run_ranks(
    work: Callable[[Rank], None], world: int, threads: int, scratch: Path, idle: Callable[[], None] = lambda: None
) -> None:
    """Runs `work` in `world` processes and returns when all of them are done.

    Args:
        scratch: An empty folder for this attempt.
        idle: Called about ten times a second while waiting.

    Raises:
        Stopped: SIGTERM came, and they left after saving.
        RankError: One of them failed; of the kind that its own error was.
    """
    context, stop = _context(), Stop()
    processes = [
        context.Process(
            target=_enter, args=(work, Rank(number, world, threads, scratch, stop), os.getpid()), name=f"rank-{number}"
        )
        for number in range(world)
    ]
    with _on_sigterm(stop.request):
        try:
            for process in processes:
                process.start()
            _wait(processes, idle)
        finally:
            for process in processes:
                if process.pid is not None and process.is_alive():
                    process.kill()
            for process in processes:
                if process.pid is not None:
                    process.join()
    codes = [process.exitcode for process in processes]
    if any(code not in (0, EXIT_STOPPED) for code in codes):
        raise _failure(codes, scratch)
    if stop.requested:
        raise Stopped("training was asked to stop", hint="start it again: it goes on from its last checkpoint")


def _wait(processes: list[Any], idle: Callable[[], None]) -> None:
    """Until all have ended, or one has ended badly."""
    alive = list(processes)
    while alive:
        multiprocessing.connection.wait([process.sentinel for process in alive], timeout=_POLL_SECONDS)
        idle()
        if any(process.exitcode not in (None, 0, EXIT_STOPPED) for process in processes):
            return
        alive = [process for process in alive if process.exitcode is None]


def _failure(codes: list[int | None], scratch: Path) -> WindtunnelError:
    """The error of the rank that failed first; the others were killed because of it."""
    told = sorted(scratch.glob("error-*.json"), key=lambda path: path.stat().st_mtime)
    if told:
        record = json.loads(told[0].read_text())
        error = RankError(record["message"], where=record["where"], hint=record["hint"], rank=record["rank"])
        error.kind = FailureKind(record["kind"])
        return error
    number, code = next((number, code) for number, code in enumerate(codes) if code not in (0, EXIT_STOPPED))
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
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
def process_group(rank: Rank) -> Iterator[None]:
    """torch's process group for the ranks of this machine; Lightning finds it and makes none of its own. For use in
    each of them."""
    import torch

    torch.set_num_threads(rank.threads)
    names = {
        "LOCAL_RANK": rank.number,
        "NODE_RANK": 0,
        "WORLD_SIZE": rank.world,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": 0,
    }
    os.environ.update({name: str(value) for name, value in names.items()})
    if rank.world == 1:
        yield
        return
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(rank.number)
        backend = "nccl"
    torch.distributed.init_process_group(
        backend, init_method=f"file://{rank.scratch / 'rendezvous'}", rank=rank.number, world_size=rank.world
    )
    yield
    torch.distributed.destroy_process_group()


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
