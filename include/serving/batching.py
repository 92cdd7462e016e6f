"""Runs a model's calls on threads of its own, and answers questions together that wait at the same moment.

Nothing ever waits for company: as long as a thread is free a request is answered at once and alone; when all are busy,
requests gather, and the next free thread takes several in one call, if the model gains by that. So batches grow with
load by themselves, and one client pays no delay for it.

Every model has its own threads, so that a challenger that hangs cannot take the champion's. Everything but the model
call happens on the event loop's thread, so there is no lock.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.errors import WindtunnelError
from include.families.contract import ModelRuntime
from include.serving.wire import RequestError

Inputs = Mapping[str, Sequence[Any]]


class ModelError(WindtunnelError):
    """A model broke the runtime contract."""


class ModelTimeout(ModelError):
    """A model did not answer in time."""


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


@dataclass(frozen=True, slots=True)
class _Call:
    """Work for a thread: several requests in one call; `done` hands the results back."""

    inputs: list[Inputs]
    rows: list[int]
    done: Callable[[list[Answers | Exception]], None]


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
    """The queue in front of one model. Its threads end when nothing refers to it any more.

    Args:
        workers: Calls of this model that may run at once.
        max_rows: Most rows that are merged into a call (a single larger request is still one call).
        max_waiting: Requests that may wait.
        seconds: How long a request may take, waiting included.
    """

    def __init__(
        self, runtime: ModelRuntime, *, workers: int, max_rows: int, max_waiting: int, seconds: float = 10.0
    ) -> None:
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._seconds = seconds
        self._free = workers
        self._waiting: deque[_Job] = deque()
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self.calls = 0
        self.rows = 0
        for _ in range(workers):
            # daemons: a call that hangs must not keep the process from ending
            threading.Thread(target=_work, args=(runtime, self._calls), name="model", daemon=True).start()
        weakref.finalize(self, _dismiss, self._calls, workers)

    async def submit(self, inputs: Inputs, rows: int) -> Answers:
        """The model's answers to `rows` rows.

        Raises:
            RequestError: Too many requests wait already (503).
            ModelTimeout: There was no answer in time.
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
        deadline = loop.call_later(self._seconds, _expire, job.future, self._seconds)
        try:
            return await job.future
        finally:
            deadline.cancel()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting and self._free:
            jobs = self._take()
            if not jobs:
                continue
            self._free -= 1
            self.calls += 1
            self.rows += sum(job.rows for job in jobs)
            self._calls.put(_Call([job.inputs for job in jobs], [job.rows for job in jobs], self._handing(loop, jobs)))

    def _take(self) -> list[_Job]:
        jobs: list[_Job] = []
        rows = 0
        while self._waiting and (not jobs or rows + self._waiting[0].rows <= self._max_rows):
            job = self._waiting.popleft()
            if not job.future.done():  # its client may have gone away, or its time is over
                jobs.append(job)
                rows += job.rows
        return jobs

    def _handing(
        self, loop: asyncio.AbstractEventLoop, jobs: list[_Job]
    ) -> Callable[[list[Answers | Exception]], None]:
        def done(results: list[Answers | Exception]) -> None:
            loop.call_soon_threadsafe(self._done, loop, jobs, results)

        return done

    def _done(self, loop: asyncio.AbstractEventLoop, jobs: list[_Job], results: list[Answers | Exception]) -> None:
        self._free += 1
        self._start(loop)  # the model first: results are handed out while it already works
        for job, result in zip(jobs, results, strict=True):
            if job.future.done():
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)


def _expire(future: asyncio.Future[Answers], seconds: float) -> None:
    if not future.done():
        future.set_exception(ModelTimeout(f"the model did not answer within {seconds:g} s"))


def _work(runtime: ModelRuntime, calls: queue.SimpleQueue[_Call | None]) -> None:
    """A thread of a batcher; it must not hold the batcher itself, or neither would ever end."""
    while (call := calls.get()) is not None:
        results = _run(runtime, call.inputs, call.rows)
        try:
            call.done(results)
        except RuntimeError:  # the event loop has ended, and nobody waits for the answer any more
            return
        del call, results


def _dismiss(calls: queue.SimpleQueue[_Call | None], workers: int) -> None:
    for _ in range(workers):
        calls.put(None)


def _run(runtime: ModelRuntime, inputs: list[Inputs], rows: list[int]) -> list[Answers | Exception]:
    """Never raises: every request gets its answer or its own error."""
    if len(inputs) == 1:
        return [_one(runtime, inputs[0], rows[0])]
    try:
        merged = {name: [value for one in inputs for value in one[name]] for name in inputs[0]}
        return _split(answer(runtime, merged, sum(rows)), rows)
    except (Exception, SystemExit):  # model code may raise anything; whoever's input it was must not fail the others
        return [_one(runtime, one, count) for one, count in zip(inputs, rows, strict=True)]


def _one(runtime: ModelRuntime, inputs: Inputs, rows: int) -> Answers | Exception:
    try:
        return answer(runtime, inputs, rows)
    except Exception as error:  # model code may raise anything; it becomes this request's error
        return error
    except SystemExit as error:  # it would end this thread, and no other request would ever be answered
        return ModelError(f"the model asked to exit with {error.code!r}")


def _split(answers: Answers, rows: list[int]) -> list[Answers | Exception]:
    parts: list[Answers | Exception] = []
    start = 0
    for count in rows:
        stop = start + count
        outputs = {name: values[start:stop] for name, values in answers.outputs.items()}
        parts.append(Answers(outputs, answers.records[start:stop]))
        start = stop
    return parts
