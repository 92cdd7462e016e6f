"""Threads for work that must not hold up the event loop: a model's calls, large bodies, labels of feedback.

They are daemons, because work that hangs must not keep the process from ending, and they end with the object that
made them.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from include.errors import WindtunnelError
from include.serving.wire import RequestError

Call = Callable[[], None]
Result = TypeVar("Result")


@dataclass
class _Queue:
    """What the threads themselves hold: they must not hold the object that made them, or neither would ever end."""

    calls: queue.SimpleQueue[Call | None]
    threads: int = 0


class Threads:
    """Threads that take calls from one queue, in order. A call must not raise."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._queue = _Queue(queue.SimpleQueue())
        for _ in range(count):
            self.grow()
        weakref.finalize(self, _dismiss, self._queue)

    def put(self, call: Call) -> None:
        """Queues a call for the next free thread."""
        self._queue.calls.put(call)

    def grow(self) -> None:
        """Starts one more thread."""
        self._queue.threads += 1
        threading.Thread(target=_work, args=(self._queue.calls,), name=self._name, daemon=True).start()

    def shrink(self) -> None:
        """Lets one thread end, the next that has nothing to do."""
        self._queue.threads -= 1
        self._queue.calls.put(None)


def _work(calls: queue.SimpleQueue[Call | None]) -> None:
    while (call := calls.get()) is not None:
        call()
        del call  # an idle thread holds nothing of the last request


def _dismiss(queued: _Queue) -> None:
    for _ in range(queued.threads):
        queued.calls.put(None)


class SideWork:
    """Runs functions on a few threads, with a bounded line in front of them.

    Args:
        max_waiting: Calls that may be under way or wait.
        seconds: How long one may take, waiting included.
    """

    def __init__(self, name: str, threads: int, *, max_waiting: int, seconds: float) -> None:
        self._name = name
        self._threads = Threads(name, threads)
        self._max_waiting = max_waiting
        self._seconds = seconds
        self.under_way = 0

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """What `function` returns or raises.

        Raises:
            RequestError: Too many calls wait (503), or there was no result in time (504).
        """
        if self.under_way >= self._max_waiting:
            raise RequestError(f"{self._name}: too many requests wait", status=503, retry_after=1)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def call() -> None:
            result: Result | None = None
            error: BaseException | None = None
            try:
                result = function(*arguments)
            except BaseException as raised:  # a thread must outlive its call; who asked gets the error
                error = raised if isinstance(raised, Exception) else WindtunnelError(f"{type(raised).__name__}")
            try:
                loop.call_soon_threadsafe(self._done, future, result, error)
            except RuntimeError:  # the event loop has ended, and nobody waits any more
                return

        self.under_way += 1
        self._threads.put(call)
        try:
            async with asyncio.timeout(self._seconds):
                return await future
        except TimeoutError:
            raise RequestError(f"{self._name}: no result within {self._seconds:g} s", status=504) from None

    def _done(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self.under_way -= 1
        if future.done():  # who asked went away
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
