"""What one training is to do: the family's hyperparameters, and how much of the trainer's part they override."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from include.errors import UserError
from include.failures.adjust import Adjustment
from include.failures.records import LEARNING_RATE
from include.pods.cgroup import quota
from include.spec.models import FamilySpec

#: Keys that may stand among a run's hyperparameters and belong to the trainer, not to the family's model.
OVERRIDES = frozenset({"max_epochs", "max_examples"})


def split_overrides(spec: FamilySpec, values: Mapping[str, Any]) -> tuple[FamilySpec, dict[str, Any]]:
    """The spec with the trainer's part overridden, and the hyperparameters of the model: the spec's, then `values`.

    Raises:
        UserError: An override is not a whole number above 0.
    """
    overrides = {key: value for key, value in values.items() if key in OVERRIDES}
    for key, value in overrides.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{key} must be a whole number above 0, not {value!r}", where=f"hyperparameters.{key}")
    trainer = spec.trainer.model_copy(update=overrides)
    model = {key: value for key, value in values.items() if key not in OVERRIDES}
    return spec.model_copy(update={"trainer": trainer}), {**spec.hyperparameters, **model}


def adjusted_work(
    spec: FamilySpec, hyperparameters: Mapping[str, Any], adjustment: Adjustment
) -> tuple[FamilySpec, dict[str, Any]]:
    """What a try does where earlier ones ran out of memory or diverged: the spec, and the model's hyperparameters."""
    values = dict(hyperparameters)
    if adjustment.learning_rate_factor != 1.0:
        values[LEARNING_RATE] *= adjustment.learning_rate_factor
    return spec.model_copy(update={"trainer": adjustment.trainer(spec.trainer)}), values


def adjusted_facts(spec: FamilySpec, hyperparameters: Mapping[str, Any], adjustment: Adjustment) -> dict[str, Any]:
    """What was trained with in place of what was asked for, for the result and the model's record; empty: as asked.

    Args:
        spec, hyperparameters: As asked for.
    """
    facts: dict[str, Any] = {}
    if adjustment.batch_divisor != 1:
        trainer = adjustment.trainer(spec.trainer)
        for name in ("batch_size", "accumulate_grad_batches"):
            facts[name] = {"asked": getattr(spec.trainer, name), "used": getattr(trainer, name)}
    if adjustment.learning_rate_factor != 1.0:
        asked = hyperparameters[LEARNING_RATE]
        facts[LEARNING_RATE] = {"asked": asked, "used": asked * adjustment.learning_rate_factor}
    return facts


def threads_per_process(processes: int) -> int:
    """Threads that each of `processes` may compute with: its share of the cores, or what `OMP_NUM_THREADS` says.

    A pod's cores are those that it is limited to: more threads than that would wait for each other.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = quota()
    cores = cores if limit is None else min(cores, max(1, math.floor(limit)))
    return int(told) if told.isdecimal() and int(told) > 0 else max(1, cores // processes)
