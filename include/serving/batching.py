"""Answers questions together that wait at the same moment.

A model call on sixteen questions costs far less than sixteen calls. Nothing ever waits for company: as long as a worker
is free a request is answered at once and alone; when all are busy, requests gather, and the next free worker takes them
in one call. So batches grow with load by themselves, and one client pays no delay for it.

Everything but the model call happens on the event loop's thread, so there is no lock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from include.errors import WindtunnelError
from include.families.contract import ModelRuntime
from include.serving.wire import RequestError

Inputs = Mapping[str, Sequence[Any]]


class ModelError(WindtunnelError):
    """A model broke the runtime contract."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model answered to one request: outputs by name, and one record for people per row."""

    outputs: dict[str, list[Any]]
    records: list[dict[str, Any]]


@dataclass(slots=True)
class _Job:
    inputs: Inputs
    rows: int
    future: asyncio.Future[Answers]


def answer(runtime: ModelRuntime, inputs: Inputs, rows: int) -> Answers:
    """One model call.

    Raises:
        ModelError: The model returned another number of answers than it was asked for.
        Exception: Whatever the model's code raises.
    """
    outputs = runtime.predict(inputs)
    for name, values in outputs.items():
        if len(values) != rows:
            raise ModelError(f"the model gave {len(values)} values of {name!r} for {rows} rows")
    return Answers(outputs, [runtime.answer(outputs, index) for index in range(rows)])


class Batcher:
    """The queue in front of one model.

    Args:
        pool: Where model calls run; shared by all models of a gateway.
        workers: Calls of this model that may run at once.
        max_rows: Most rows that are merged into a call (a single larger request is still one call).
        max_waiting: Requests that may wait.
    """

    def __init__(self, runtime: ModelRuntime, pool: Executor, *, workers: int, max_rows: int, max_waiting: int) -> None:
        self._runtime = runtime
        self._pool = pool
        self._workers = workers
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._waiting: deque[_Job] = deque()
        self._running = 0
        self.calls = 0
        self.rows = 0

    async def submit(self, inputs: Inputs, rows: int) -> Answers:
        """The model's answers to `rows` rows.

        Raises:
            RequestError: Too many requests wait already (503).
            Exception: Whatever the model's code raised on these inputs.
        """
        if len(self._waiting) >= self._max_waiting:
            raise RequestError(
                "too many requests are waiting", status=503, retry_after=1, hint="slow down and try again"
            )
        loop = asyncio.get_running_loop()
        job = _Job(inputs, rows, loop.create_future())
        self._waiting.append(job)
        self._start(loop)
        return await job.future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting and self._running < self._workers:
            jobs = self._take()
            if not jobs:
                continue
            self._running += 1
            self.calls += 1
            self.rows += sum(job.rows for job in jobs)
            running = self._pool.submit(self._run, [job.inputs for job in jobs], [job.rows for job in jobs])
            running.add_done_callback(lambda done, jobs=jobs: loop.call_soon_threadsafe(self._done, loop, jobs, done))  # type: ignore[misc]

    def _take(self) -> list[_Job]:
        jobs: list[_Job] = []
        rows = 0
        while self._waiting and (not jobs or rows + self._waiting[0].rows <= self._max_rows):
            job = self._waiting.popleft()
            if not job.future.done():  # its client may have gone away
                jobs.append(job)
                rows += job.rows
        return jobs

    def _done(self, loop: asyncio.AbstractEventLoop, jobs: list[_Job], done: Future[list[Answers | Exception]]) -> None:
        self._running -= 1
        self._start(loop)  # the model first: results are handed out while it already works
        for job, result in zip(jobs, done.result(), strict=True):
            if job.future.done():
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

    def _run(self, inputs: list[Inputs], rows: list[int]) -> list[Answers | Exception]:
        """Runs on a pool thread. Never raises: every job gets its answer or its own error."""
        if len(inputs) == 1:
            return [self._one(inputs[0], rows[0])]
        try:
            merged = {name: [value for one in inputs for value in one[name]] for name in inputs[0]}
            return _split(answer(self._runtime, merged, sum(rows)), rows)
        except Exception:  # model code may raise anything; whoever's input it was must not fail the others
            return [self._one(one, count) for one, count in zip(inputs, rows, strict=True)]

    def _one(self, inputs: Inputs, rows: int) -> Answers | Exception:
        try:
            return answer(self._runtime, inputs, rows)
        except Exception as error:  # model code may raise anything; it becomes this request's error
            return error


def _split(answers: Answers, rows: list[int]) -> list[Answers | Exception]:
    parts: list[Answers | Exception] = []
    start = 0
    for count in rows:
        stop = start + count
        outputs = {name: values[start:stop] for name, values in answers.outputs.items()}
        parts.append(Answers(outputs, answers.records[start:stop]))
        start = stop
    return parts
