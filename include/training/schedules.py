"""The learning rate over the course of a training, as a share of the full rate: a pure function of the step.

It keeps no state, so that a training that is resumed, or goes on in smaller batches, has the rate that it would have
had. The shapes are those of torch's schedulers of the same names, after a warm-up in a line.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from include.spec.optimizing import DecaySchedule, RestartSchedule, SchedulerSpec, StepSchedule

_ROUNDING = 1e-9  # a step that is meant to be a milestone, or to begin a cycle, does


def warmup_steps(share: float, total: int) -> int:
    """Steps that warm up: the first step that has the full rate is the last of them."""
    return max(1, round(share * total))


def factor_of(schedule: SchedulerSpec, *, total_steps: int, warmup_share: float) -> Callable[[int], float]:
    """Step (from 0) -> share of the learning rate, for all schedules but `plateau`, which depends on a metric too.

    Of `plateau`, it is the warm-up alone.
    """
    total = max(1, total_steps)
    warmup = warmup_steps(warmup_share, total)
    span = max(1, total - warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        left = max(0.0, (total - step) / span)
        return _shape(schedule, left)

    return factor


def _shape(schedule: SchedulerSpec, left: float) -> float:
    """The share of the rate where `left` of the steps after the warm-up are left, from 1 to 0."""
    done = 1.0 - left + _ROUNDING
    if isinstance(schedule, DecaySchedule):
        return _above(schedule.floor, left if schedule.kind == "linear" else _half_cosine(1.0 - left))
    if isinstance(schedule, RestartSchedule):
        return _above(schedule.floor, _half_cosine(done * schedule.cycles % 1.0 if left else 1.0))
    if isinstance(schedule, StepSchedule):
        return float(schedule.factor ** sum(done >= milestone for milestone in schedule.milestones))
    return 1.0


def _half_cosine(done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * done))


def _above(floor: float, value: float) -> float:
    return floor + (1.0 - floor) * value
