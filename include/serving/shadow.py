"""The shadow lane: the challenger answers copies of the champion's requests, and nobody waits for it.

Copies are answered one at a time on a thread of their own, so that a slow challenger takes at most one core, its
latency is that of a single request like the champion's, and a full queue costs copies (counted), never a client's time.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from include.errors import clip
from include.serving.batching import Answers, Inputs, answer
from include.serving.models import Model
from include.serving.stats import Place

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
    """A bounded queue and its thread.

    Args:
        size: Copies that may wait.
        done: Called on the lane's thread with every outcome.
    """

    def __init__(self, size: int, done: Callable[[ShadowOutcome], None]) -> None:
        self._queue: queue.Queue[Copy | None] = queue.Queue(size)
        self._done = done
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self.dropped = 0  # written by the event loop only

    def start(self) -> None:
        self._thread.start()

    def offer(self, copy: Copy) -> None:
        """Queues a copy, or drops and counts it. Never blocks."""
        try:
            self._queue.put_nowait(copy)
        except queue.Full:
            self.dropped += 1

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def stop(self) -> None:
        """Finishes the copy at work and leaves the rest."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):  # then the thread is busy, and looks at `_stopping` before its next copy
            self._queue.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while (copy := self._queue.get()) is not None and not self._stopping.is_set():
            started = time.perf_counter()
            answers: Answers | None = None
            error: str | None = None
            try:
                answers = answer(copy.model.runtime, copy.inputs, len(copy.request_ids))
            except Exception as failure:  # model code may raise anything; it counts against the challenger
                error = f"{type(failure).__name__}: {clip(failure, 200)}"
            latency_ms = (time.perf_counter() - started) * 1e3
            try:
                self._done(ShadowOutcome(copy, answers, error, latency_ms))
            except Exception:  # the lane must outlive one copy whose record could not be kept
                log.exception("a shadow answer could not be recorded")
