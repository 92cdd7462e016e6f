"""Feedback finds its answer: the last answers by request id, labelled when the truth about them comes in.

Each answer is labelled once, whatever is sent how often. Where the challenger answered the same request in the shadow,
its answer is labelled too, and the two labels make a pair: the same request, so a sharper comparison than two groups.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from include.errors import clip
from include.families.contract import ModelRuntime
from include.serving.prediction_log import PredictionLog
from include.serving.predictions import FEEDBACK
from include.serving.stats import Stats
from include.serving.tally import Place
from include.serving.wire import RequestError

log = logging.getLogger(__name__)

HELPFUL = "helpful"
Record = Mapping[str, Any]


@dataclass(slots=True)
class _Remembered:
    """An answer that went out, and what is known about it by now."""

    place: Place
    record: Record
    shadow: tuple[Place, Record] | None = None
    truth: Mapping[str, Any] | None = None
    helpful: bool | None = None
    labels: dict[str, float] = field(default_factory=dict)


class FeedbackBook:
    """Remembers the last `size` answers. Thread-safe.

    Args:
        runtime: (family, digest) -> a runtime that can label the family's answer records; None when there is none.
        now: The time, aware.
    """

    def __init__(
        self,
        size: int,
        stats: Stats,
        rows: PredictionLog,
        runtime: Callable[[str, str], ModelRuntime | None],
        now: Callable[[], datetime],
    ) -> None:
        self._size = size
        self._stats = stats
        self._rows = rows
        self._runtime = runtime
        self._now = now
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, _Remembered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def remember(self, request_id: str, place: Place, record: Record) -> None:
        """Notes an answer that goes out."""
        with self._lock:
            self._answers[request_id] = _Remembered(place, record)
            if len(self._answers) > self._size:
                self._answers.popitem(last=False)

    def shadow(self, request_id: str, place: Place, record: Record) -> Callable[[], None] | None:
        """Notes the challenger's answer to the same request.

        Returns:
            Where the truth was faster, what labels the answer now: the family's own code, which may take its time.
        """
        with self._lock:
            found = self._answers.get(request_id)
            if found is None:
                return None
            found.shadow = (place, record)
            truth, labels = found.truth, found.labels
        return None if truth is None else partial(self._label_shadow, place, record, truth, labels)

    def give(self, request_id: str, truth: Mapping[str, Any] | None, helpful: bool | None) -> dict[str, Any]:
        """Labels the answer `request_id`. `counted` is False where all of this was known already.

        Raises:
            RequestError: No such answer (404), or the truth is not of the kind that the family knows (422).
        """
        with self._lock:
            found = self._answers.get(request_id)
        if found is None:
            raise RequestError(
                f"there is no answer {clip(request_id, 64)!r} to give feedback on",
                status=404,
                hint="it is unknown here, or too old",
            )
        labels = self._labels(found.place, found.record, truth) if truth is not None else {}
        with self._lock:
            new_truth = truth is not None and found.truth is None
            new_helpful = helpful is not None and found.helpful is None
            if new_truth:
                found.truth, found.labels = truth, labels
            if new_helpful:
                found.helpful = helpful
            shadow = found.shadow if new_truth else None
        if new_truth:
            self._stats.label(found.place, labels)
        if new_helpful:
            self._stats.label(found.place, {HELPFUL: float(bool(helpful))}, truth=False)
        if shadow is not None and truth is not None:
            self._label_shadow(*shadow, truth, labels)
        if new_truth or new_helpful:
            self._log(request_id, found.place, truth if new_truth else None, helpful if new_helpful else None, labels)
        return {"request_id": request_id, "labels": found.labels, "counted": new_truth or new_helpful}

    def _label_shadow(
        self, place: Place, record: Record, truth: Mapping[str, Any], served: Mapping[str, float]
    ) -> None:
        try:
            labels = self._labels(place, record, truth)
        except RequestError as error:
            log.warning("a shadow answer of %s %s cannot be labelled: %s", place.family, place.version, error)
            return
        self._stats.label(place, labels)
        self._stats.pair(place, served, labels)

    def _labels(self, place: Place, record: Record, truth: Mapping[str, Any]) -> dict[str, float]:
        runtime = self._runtime(place.family, place.digest)
        if runtime is None:
            raise RequestError(f"no model of {place.family} is loaded", status=503, retry_after=1)
        try:
            labels = {str(name): float(value) for name, value in runtime.label(record, truth).items()}
        except Exception as error:  # the truth comes from outside and meets family code that may raise anything on it
            raise RequestError(
                f"the truth does not fit family {place.family!r}: {type(error).__name__}: {clip(error, 200)}"
            ) from None
        if not all(map(math.isfinite, labels.values())):
            raise RequestError("the truth gives no finite label")
        return labels

    def _log(
        self,
        request_id: str,
        place: Place,
        truth: Mapping[str, Any] | None,
        helpful: bool | None,
        labels: Mapping[str, float],
    ) -> None:
        self._rows.add(
            {
                "kind": FEEDBACK,
                "request_id": request_id,
                "at": self._now().isoformat(),
                "family": place.family,
                "version": place.version,
                "role": place.role,
                "generation": place.generation,
                "truth": truth,
                "helpful": helpful,
                "labels": labels,
            }
        )
