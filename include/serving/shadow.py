"""The shadow lane: the challenger answers copies of the champion's requests, and nobody waits for it.

Copies are answered one at a time, by the challenger's own threads, so that it takes at most one core and its latency is
that of a single request. A full queue costs copies (counted), never a client's time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

from include.errors import clip
from include.serving.calls import Answers, Inputs
from include.serving.models import Model
from include.serving.tally import Place

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Copy:
    """A request that the champion has answered, for the challenger."""

    request_ids: list[str]
    unit: str
    inputs: Inputs
    place: Place
    model: Model


@dataclass(frozen=True, slots=True)
class ShadowOutcome:
    """What the challenger made of a copy: answers, or an error."""

    copy: Copy
    answers: Answers | None
    error: str | None
    latency_ms: float


class ShadowLane:
    """A bounded queue and the task that empties it; used on the event loop's thread only.

    Args:
        size: Copies that may wait.
        wanted: Whether a copy is still worth answering; the stage that it was made for may be over by its turn.
        done: Called with every outcome.
    """

    def __init__(self, size: int, wanted: Callable[[Copy], bool], done: Callable[[ShadowOutcome], None]) -> None:
        self._queue: asyncio.Queue[Copy] = asyncio.Queue(size)
        self._wanted = wanted
        self._done = done
        self._task: asyncio.Task[None] | None = None
        self.unfinished: Copy | None = None
        self.dropped = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def offer(self, copy: Copy) -> None:
        """Queues a copy, or drops and counts it."""
        try:
            self._queue.put_nowait(copy)
        except asyncio.QueueFull:
            self.dropped += 1

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    async def stop(self) -> None:
        """Leaves what still waits: nobody will read it. What was being answered stays in `unfinished`."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            copy = await self._queue.get()
            if not self._wanted(copy):
                self.dropped += 1
                continue
            self.unfinished = copy
            outcome = await _answered(copy)
            self.unfinished = None
            try:
                self._done(outcome)
            except Exception:  # the lane must outlive one copy whose record could not be kept
                log.exception("a shadow answer could not be recorded")


async def _answered(copy: Copy) -> ShadowOutcome:
    started = perf_counter()
    answers: Answers | None = None
    error: str | None = None
    try:
        answers = await copy.model.batcher.submit(copy.inputs, len(copy.request_ids))
    except Exception as failure:  # model code may raise anything; it counts against the challenger
        error = f"{type(failure).__name__}: {clip(failure, 200)}"
    return ShadowOutcome(copy, answers, error, (perf_counter() - started) * 1e3)
