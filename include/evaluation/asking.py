"""A loaded model asked as the gateway asks it: the same checks of the request, the same call, the same records.

What comes back is one of three things: an answer, a clear refusal, or a failure. A model may refuse what it cannot
answer; it may not fall over.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any

from include.errors import FINAL_KINDS, WindtunnelError, clip
from include.families.contract import DatasetView, Family, ModelRuntime
from include.serving.calls import Inputs, run_call
from include.serving.config import GatewayConfig
from include.serving.tensors import one_row
from include.serving.wire import RequestError

_BATCH = 16
_MOST_REQUESTS = 100_000


class Outcome(str, Enum):
    """What became of a request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Answer:
    """What a model said to one request.

    Attributes:
        record: The answer record; empty unless answered.
        why: Why there is none.
    """

    outcome: Outcome
    record: Mapping[str, Any]
    why: str = ""


@dataclass(frozen=True)
class Example:
    """A labelled request of a split."""

    id: str
    request: Mapping[str, Any]
    truth: Mapping[str, Any]


def sample(family: Family, dataset: DatasetView, split: str, size: int) -> list[Example]:
    """At most `size` examples of the split: those whose ids hash lowest, so that every model meets the same ones."""
    found = [
        Example(identity, request, truth)
        for identity, request, truth in islice(family.requests(dataset, split), _MOST_REQUESTS)
    ]
    order = sorted(found, key=lambda example: hashlib.sha256(example.id.encode()).digest())
    return sorted(order[:size], key=lambda example: example.id)


def ask(runtime: ModelRuntime, requests: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """The answers to `requests`, in their order. Never raises for what a request or the model did."""
    answers: list[Answer | None] = [None] * len(requests)
    good: list[int] = []
    for index, request in enumerate(requests):
        try:
            one_row(runtime, request, GatewayConfig.max_text, GatewayConfig.max_values)
            good.append(index)
        except RequestError as error:
            answers[index] = Answer(Outcome.REFUSED, {}, clip(error.message, 200))
    for start in range(0, len(good), _BATCH):
        batch = good[start : start + _BATCH]
        for index, found in zip(batch, _asked(runtime, [requests[index] for index in batch]), strict=True):
            answers[index] = found
    return [found for found in answers if found is not None]


def _asked(runtime: ModelRuntime, requests: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """One call of the model, as the gateway's threads make it: a request that fails does not spoil the others."""
    columns: list[Inputs] = [{name: [request[name]] for name in runtime.inputs} for request in requests]
    results = run_call(runtime, columns, [1] * len(requests))
    return [_failed(found) if isinstance(found, Exception) else _checked(found.records[0]) for found in results]


def _failed(error: Exception) -> Answer:
    refused = isinstance(error, WindtunnelError) and error.kind in FINAL_KINDS
    why = error.message if isinstance(error, WindtunnelError) else f"{type(error).__name__}: {error}"
    return Answer(Outcome.REFUSED if refused else Outcome.FAILED, {}, clip(why, 200))


def _checked(record: Mapping[str, Any]) -> Answer:
    """A record with a number that is none cannot be sent, and says nothing."""
    for name, value in record.items():
        if isinstance(value, float) and not math.isfinite(value):
            return Answer(Outcome.FAILED, {}, f"{name} is {value}")
    return Answer(Outcome.ANSWERED, record)
