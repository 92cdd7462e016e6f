"""The learning rate's course: torch's own schedulers give the same, and the first steps warm up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LinearLR, MultiStepLR

from include.spec.optimizing import SchedulerSpec
from include.training.schedules import factor_of

TOTAL = 40


def _schedule(**values: Any) -> Any:
    return TypeAdapter(SchedulerSpec).validate_python(values)


def _course(total: int = TOTAL, warmup_share: float = 0.0, **values: Any) -> list[float]:
    factor = factor_of(_schedule(**values), total_steps=total, warmup_share=warmup_share)
    return [factor(step) for step in range(total)]


def _by_torch(make: Any, steps: int, **arguments: Any) -> list[float]:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, rates = make(optimizer, **arguments), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"kind": "linear"}, (LinearLR, {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 39})),
        ({"kind": "cosine", "floor": 0.1}, (CosineAnnealingLR, {"T_max": 39, "eta_min": 0.1})),
        ({"kind": "cosine_restarts", "cycles": 3}, (CosineAnnealingWarmRestarts, {"T_0": 13})),
        ({"kind": "step", "milestones": [10 / 39, 30 / 39]}, (MultiStepLR, {"milestones": [10, 30], "gamma": 0.1})),
    ],
)
def test_after_the_first_step_the_course_is_that_of_torchs_scheduler(ours: Any, theirs: Any) -> None:
    """One step of the forty is the warm-up; the other 39 are torch's."""
    make, arguments = theirs
    assert _course(**ours)[1:] == pytest.approx(_by_torch(make, TOTAL - 1, **arguments), abs=1e-8)


def test_warm_up_rises_in_a_line_to_the_full_rate_and_the_rest_is_stretched_over_what_is_left() -> None:
    course = _course(warmup_share=0.25, kind="linear")
    assert course[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert course[10] == 1.0
    assert course[-1] == pytest.approx(1 / 30)
    assert _course(warmup_share=0.25, kind="constant")[9:] == [1.0] * 31


def test_a_training_of_one_step_has_the_full_rate() -> None:
    for kind in ("constant", "linear", "cosine", "cosine_restarts", "step", "plateau"):
        assert _course(total=1, warmup_share=1.0, kind=kind) == [1.0]


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "cosine", "cycles": 2},
        {"kind": "step", "milestones": [0.5, 0.5]},
        {"kind": "step", "milestones": [1.0]},
        {"kind": "plateau", "factor": 1.0},
        {"kind": "exponential"},
    ],
)
def test_what_makes_no_sense_is_refused(values: Any) -> None:
    with pytest.raises(ValidationError):
        _schedule(**values)
