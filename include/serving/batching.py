"""Runs a model's calls on threads of its own, and answers questions together that wait at the same moment.

Nothing ever waits for company: as long as a thread is free a request is answered at once and alone; when all are busy,
requests gather, and the next free thread takes several in one call, if the model gains by that. So batches grow with
load by themselves, and one client pays no delay for it.

Every model has its own threads, so that a challenger that hangs cannot take the champion's. Everything but the model
call happens on the event loop's thread, so there is no lock.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from include.families.contract import ModelRuntime
from include.serving.calls import Answers, Inputs, ModelStuck, ModelTimeout, Results, run_call, shape_of
from include.serving.threads import Threads
from include.serving.wire import RequestError

_REPLACEMENTS = 4  # threads per model that may take the place of ones that hang
_RETRY_MOST = 30
_SMOOTHING = 0.2  # weight of the newest call in the estimate of how long one takes


@dataclass(slots=True)
class _Job:
    inputs: Inputs
    rows: int
    future: asyncio.Future[Answers]
    form: tuple[tuple[int, ...], ...]


@dataclass(slots=True, eq=False)
class _Running:
    """A call that a thread works on.

    Attributes:
        given_up: It has run for as long as any request may take.
        replaced: Another thread has taken the place of this call's thread.
    """

    jobs: list[_Job]
    started: float
    given_up: bool = False
    replaced: bool = False


class Batcher:
    """The queue in front of one model. Its threads end when nothing refers to it any more.

    Requests are turned away early: as soon as too many rows wait, or as the queue is longer than `max_wait` seconds at
    the speed of the last calls. A call that hangs loses its thread; others take its place, up to `_REPLACEMENTS`. Once
    all of those hang too, the model is `stuck` and fails requests at once, until a call comes back.

    Args:
        workers: Calls of this model that may run at once.
        max_rows: Most rows that are merged into a call (a single larger request is still one call).
        max_waiting: Rows that may wait.
        max_wait: How long a request may have to wait, seconds, before it is turned away.
        seconds: How long a request may take, waiting included.
    """

    def __init__(
        self,
        runtime: ModelRuntime,
        *,
        workers: int,
        max_rows: int,
        max_waiting: int,
        max_wait: float = math.inf,
        seconds: float = 10.0,
    ) -> None:
        self._runtime = runtime
        self._workers = workers
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        self._seconds = seconds
        self._free = workers
        self._waiting: deque[_Job] = deque()
        self._running: dict[_Running, None] = {}  # in the order in which they started
        self._given_up = 0
        self._replaced = 0
        self._call_seconds = 0.0
        self._threads = Threads("model", workers)
        self.waiting_rows = 0
        self.calls = 0
        self.rows = 0

    @property
    def stuck(self) -> bool:
        """Whether all threads of the model hang."""
        return not self._free and self._given_up == len(self._running)

    async def submit(self, inputs: Inputs, rows: int, seconds: float | None = None) -> Answers:
        """The model's answers to `rows` rows, within `seconds` where the client has less time than the model may take.

        Raises:
            RequestError: Too many requests wait already, or it would have to wait too long (503).
            ModelTimeout: There was no answer in time, or the model is stuck.
            Exception: Whatever the model's code raised on these inputs.
        """
        loop = asyncio.get_running_loop()
        limit = self._seconds if seconds is None else min(seconds, self._seconds)
        if not self._free:
            self._replace_hung(loop)
            self._check_room(rows)
        job = _Job(inputs, rows, loop.create_future(), _form(inputs))
        self._waiting.append(job)
        self.waiting_rows += rows
        self._start(loop)
        deadline = loop.call_later(limit, self._expire, job.future, limit, loop)
        try:
            return await job.future
        finally:
            deadline.cancel()

    def _check_room(self, rows: int) -> None:
        """Refuses what could not be answered anyway, while a refusal is still quick."""
        if self.stuck:
            raise ModelStuck("the model hangs and answers nobody")
        calls = math.ceil((self.waiting_rows + rows) / self._max_rows)
        wait = calls * self._call_seconds / self._workers
        full = self._waiting and self.waiting_rows + rows > self._max_waiting
        if full or (self._waiting and wait > self._max_wait):
            raise RequestError(
                "too many requests are waiting",
                status=503,
                retry_after=min(max(1, math.ceil(wait)), _RETRY_MOST),
                hint="slow down and try again",
            )

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting and self._free:
            jobs = self._take()
            if not jobs:
                continue
            self._free -= 1
            self.calls += 1
            self.rows += sum(job.rows for job in jobs)
            running = _Running(jobs, loop.time())
            self._running[running] = None
            inputs, rows = [job.inputs for job in jobs], [job.rows for job in jobs]
            self._threads.put(partial(_call, self._runtime, inputs, rows, partial(self._hand_back, loop, running)))

    def _take(self) -> list[_Job]:
        """The next jobs of one form that make a call; a merged call of several forms is none that a model expects."""
        jobs: list[_Job] = []
        rows = 0
        while self._waiting:
            job = self._waiting[0]
            if jobs and (rows + job.rows > self._max_rows or job.form != jobs[0].form):
                break
            self._waiting.popleft()
            self.waiting_rows -= job.rows
            if not job.future.done():  # its client may have gone away, or its time is over
                jobs.append(job)
                rows += job.rows
        return jobs

    def _hand_back(self, loop: asyncio.AbstractEventLoop, running: _Running, results: Results) -> None:
        try:
            loop.call_soon_threadsafe(self._done, loop, running, results)
        except RuntimeError:  # the event loop has ended, and nobody waits for the answer any more
            return

    def _done(self, loop: asyncio.AbstractEventLoop, running: _Running, results: Results) -> None:
        del self._running[running]
        if running.given_up:
            self._given_up -= 1
        else:
            took = loop.time() - running.started
            self._call_seconds += (took - self._call_seconds) * (_SMOOTHING if self._call_seconds else 1.0)
        if running.replaced:
            self._replaced -= 1
            self._threads.shrink()
        else:
            self._free += 1
        self._start(loop)  # the model first: results are handed out while it already works
        for job, result in zip(running.jobs, results, strict=True):
            if job.future.done():
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

    def _expire(self, future: asyncio.Future[Answers], seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        if not future.done():
            future.set_exception(ModelTimeout(f"the model did not answer within {seconds:g} s"))
        self._replace_hung(loop)

    def _replace_hung(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gives calls up that have run for as long as any request may take."""
        for running in list(self._running):
            if loop.time() - running.started < self._seconds:
                return
            if running.given_up:
                continue
            running.given_up = True
            self._given_up += 1
            if self._replaced < _REPLACEMENTS:
                running.replaced = True
                self._replaced += 1
                self._threads.grow()
                self._free += 1
                self._start(loop)


def _form(inputs: Inputs) -> tuple[tuple[int, ...], ...]:
    """The shapes of one row; requests of the same form can be merged into one call."""
    return tuple(shape_of(values[0]) if isinstance(values[0], (list, tuple)) else () for values in inputs.values())


def _call(runtime: ModelRuntime, inputs: list[Inputs], rows: list[int], done: Callable[[Results], None]) -> None:
    """What a thread does."""
    done(run_call(runtime, inputs, rows))
