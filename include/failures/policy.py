"""What is done about a run that ended badly: start again for nothing, use up a retry, or give up.

| ending | what is done |
|---|---|
| evicted, preempted, node lost | again, no retry used up, `retry.lost_places` times a run at most; then ordinary ones |
| out of memory, while training | again with a smaller batch and more accumulation, until one example is left |
| diverged, while training | again from the start with a lower learning rate, once |
| data, user | gives up at once |
| anything else | the task's ordinary retries |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from include.failures.adjust import Adjustment, smaller_batch
from include.failures.endings import HOPELESS, LOST_PLACE, Ending
from include.spec.models import AnyFamilySpec, FamilySpec

#: Steps that train, and can do so in smaller batches.
_TRAINING = frozenset({"fit", "sweep"})
_ADJUSTED_PAUSE_SECONDS = 5.0
#: What another minute or two may change; None: the task's own delay.
_PAUSE_SECONDS = {Ending.IMAGE: 120.0, Ending.UNSCHEDULABLE: 300.0, Ending.COMMUNICATION: 60.0}


class Action(str, Enum):
    """What is done next."""

    AGAIN = "again"  # no retry is used up
    RETRY = "retry"
    FAIL = "fail"


@dataclass(frozen=True)
class Decision:
    """What is done, and why.

    Attributes:
        reason: For the person on call.
        pause_seconds: How long to wait first; None: as long as the task's retries do.
        adjustment: How the next try differs from what was asked for.
    """

    action: Action
    reason: str
    pause_seconds: float | None
    adjustment: Adjustment


def decide(
    ending: Ending, *, step: str, spec: AnyFamilySpec, now: Adjustment, earlier: Sequence[Ending], has_rate: bool
) -> Decision:
    """What to do about `ending`.

    Args:
        now: How the run that ended differed from what was asked for.
        earlier: How the same step of the same pipeline run ended before.
        has_rate: Whether the step has a learning rate that can be lowered.
    """
    if ending in HOPELESS:
        return Decision(Action.FAIL, "trying again would change nothing", None, now)
    if ending in LOST_PLACE:
        return _lost_place(spec, now, earlier)
    if ending is Ending.OUT_OF_MEMORY and step in _TRAINING and isinstance(spec, FamilySpec):
        return _less_memory(spec, now)
    if ending is Ending.DIVERGED:
        return _lower_rate(spec, now, step == "fit" and has_rate)
    return Decision(Action.RETRY, "an ordinary retry, if one is left", _PAUSE_SECONDS.get(ending), now)


def _lost_place(spec: AnyFamilySpec, now: Adjustment, earlier: Sequence[Ending]) -> Decision:
    lost, limit = sum(1 for ending in earlier if ending in LOST_PLACE) + 1, spec.retry.lost_places
    if lost > limit:
        return Decision(
            Action.RETRY, f"its place was taken away more than {limit} times: a retry is used up", None, now
        )
    reason = f"starts again from what it saved ({lost} of {limit}); no retry is used up"
    return Decision(Action.AGAIN, reason, spec.retry.pause_seconds, now)


def _less_memory(spec: FamilySpec, now: Adjustment) -> Decision:
    smaller = smaller_batch(spec.trainer, now)
    if smaller is None:
        size = spec.trainer.batch_size // now.batch_divisor
        return Decision(Action.FAIL, f"the batch is down to {size} and cannot be divided further", None, now)
    trainer = smaller.trainer(spec.trainer)
    reason = (
        f"starts again with batches of {trainer.batch_size}, {trainer.accumulate_grad_batches} of them a step "
        f"(asked for: {spec.trainer.batch_size}, {spec.trainer.accumulate_grad_batches}); no retry is used up"
    )
    return Decision(Action.AGAIN, reason, _ADJUSTED_PAUSE_SECONDS, smaller)


def _lower_rate(spec: AnyFamilySpec, now: Adjustment, can: bool) -> Decision:
    factor = spec.retry.learning_rate_factor
    if not can:
        return Decision(Action.FAIL, "there is no learning rate to lower", None, now)
    if now.learning_rate_factor != 1.0 or factor == 1.0:
        return Decision(Action.FAIL, "a lower learning rate was tried, and is tried once", None, now)
    lower = now.model_copy(update={"learning_rate_factor": factor})
    reason = f"starts again from the first step with {factor:g} times the learning rate; no retry is used up"
    return Decision(Action.AGAIN, reason, _ADJUSTED_PAUSE_SECONDS, lower)
