"""What processes that fork others have in common: imports ahead, ties between parent and child, signals, output.

Standard library only, so that a process that needs nothing else starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def adopt_orphans() -> None:
    """Makes this process the parent of whatever its descendants leave behind (Linux; elsewhere nothing happens)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """The kernel sends this process a signal when its parent ends, however that ends (Linux; elsewhere nothing)."""
    _prctl(_PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Imports without garbage collection, which finds nothing there and costs a quarter of the time.

    What was imported is frozen: later collections pass it over, and forks share its memory for longer.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def import_ahead(modules: Sequence[str], say: Callable[[str], None]) -> None:
    """Imports what forks will need. One that cannot be imported is named with `say` and left out."""
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # only a head start is lost: who needs it imports it again and says what is wrong
            say(f"{name} was not imported ahead: {type(error).__name__}: {error}")


def lead_group(pid: int = 0) -> None:
    """Makes a process (0: this one) the leader of a group. Parent and child both do it: whoever comes first."""
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)


def redirect(output: Path | int) -> None:
    """Sends this process's output and errors to a file, which is made or appended to, or to an open one."""
    handle = output if isinstance(output, int) else os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    if not isinstance(output, int):
        os.close(handle)


def exit_status(program: Callable[[], None]) -> int:
    """Runs a program in a fork, and returns what would have been its exit status as a process of its own."""
    try:
        program()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # the edge of the process: it must end here and never run its parent's code
        traceback.print_exc()
        return 1
    return 0


def flush_output() -> None:
    """Before a fork ends without Python's own end, or makes another."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a broken stream must not keep the process alive
            stream.flush()
