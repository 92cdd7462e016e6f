"""A stack of small stand-in services, supervised by the real supervisor."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from include.embedded.stack import Stack
from include.settings import Settings

FAKES = Path(__file__).resolve().parent.parent / "fakes"


@pytest.fixture
def make_stack(settings: Settings) -> Iterator[Callable[..., Stack]]:
    """Stacks of `tests/fakes/stack_services.py`; what a test leaves running is stopped."""
    made: list[Stack] = []

    def make(*arguments: str) -> Stack:
        stack = Stack(settings, supervisor=[sys.executable, str(FAKES / "stack_services.py"), *arguments])
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.stop()


def is_running(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Fails unless `condition` becomes true in time."""
    import time

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
