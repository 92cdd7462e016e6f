"""Trainings of two processes that end badly for a reason of their own: out of memory, and diverged.

Out of memory goes on in smaller batches, with the same examples, rates and number of steps; see `include/failures`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from include.failures.adjust import Adjustment, smaller_batch
from include.settings import Settings
from tests.fakes.tiny_torch import torch_spec
from tests.fakes.tiny_training import Fit
from tests.training.conftest import wait_for

pytestmark = pytest.mark.slow

#: Steps over two batches of sixteen each, a schedule by steps, and two stages of unfreezing behind the kill.
_SPEC = torch_spec(
    devices=2,
    max_epochs=4,
    batch_size=16,
    accumulate_grad_batches=2,
    checkpoint_every_steps=2,
    scheduler={"kind": "linear", "warmup_share": 0.25},
    transfer={
        "learn_only": ["kind.*", "amount.*"],
        "unfreeze": [{"after_epochs": 2, "parameters": ["trunk.4.*"]}, {"after_steps": 8, "parameters": ["trunk.0.*"]}],
    },
    model={"pause_ms": 50, "plain": True},
)


def _fit(settings: Settings, name: str, folder: Path, spec: Any = _SPEC, **changes: Any) -> Fit:
    return Fit(settings, spec, name, folder / f"{name}.log", **changes)


def test_smaller_batches_end_where_the_larger_ones_would_have(settings: Settings, tmp_path: Path) -> None:
    whole = _fit(settings, "whole", tmp_path).finish()
    assert whole["steps"] == 12  # three an epoch

    fit = _fit(settings, "short-of-memory", tmp_path)
    process = fit.start()
    wait_for(lambda: fit.step() >= 4)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)  # as the kernel does to what has taken too much
    process.join()

    adjustment = smaller_batch(_SPEC.trainer, Adjustment())
    assert adjustment is not None
    outputs = _fit(settings, "short-of-memory", tmp_path, adjustment=adjustment).finish()
    assert outputs["adjusted"] == {
        "batch_size": {"asked": 16, "used": 8},
        "accumulate_grad_batches": {"asked": 2, "used": 4},
    }
    assert outputs["resumed_from_step"] >= 2
    assert outputs["steps"] == 12
    # The mean of two halves' means is the mean of the whole, but for the rounding of single precision.
    assert outputs["metrics"] == pytest.approx(whole["metrics"], rel=1e-4)


def test_a_loss_that_is_no_number_ends_both_processes_and_a_lower_rate_begins_anew(
    settings: Settings, tmp_path: Path
) -> None:
    spec = torch_spec(
        devices=2,
        batch_size=16,
        accumulate_grad_batches=2,
        gradient_clip_norm=0,
        optimizer={"kind": "sgd", "momentum": 0.0},
    ).model_copy(update={"hyperparameters": {"learning_rate": 1e30}})
    fit = _fit(settings, "diverges", tmp_path, spec)
    process = fit.start()
    process.join(120)
    assert process.exitcode == 1
    assert "not finite" in fit.error()["message"] or "is nan" in fit.error()["message"]

    outputs = _fit(settings, "diverges", tmp_path, spec, adjustment=Adjustment(learning_rate_factor=1e-32)).finish()
    assert outputs["resumed_from_step"] is None  # nothing of what diverged is gone on from
    assert outputs["adjusted"]["learning_rate"]["used"] == pytest.approx(0.01)
