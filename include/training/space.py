"""The search space: what a failed gate changes about it, and how Optuna draws from it. Pure but for the drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from include.errors import UserError
from include.evaluation.adjust import ADJUST_KEYS
from include.spec.models import FamilySpec
from include.spec.search import Choice, FloatRange, IntRange, SearchRange

LEARNING_RATE = "learning_rate"
_GRID_POINTS = 3  # per continuous range

Space = Mapping[str, SearchRange]


def adjusted(spec: FamilySpec, changes: Mapping[str, float]) -> tuple[FamilySpec, dict[str, Any]]:
    """The spec with a failed gate's changes (`include.evaluation.adjust`) applied, and the defaults of a fit.

    The defaults are the spec's hyperparameters, and the final fit's `max_epochs` and `max_examples` where they changed.

    Raises:
        UserError: A change is unknown or not a positive amount.
    """
    _check(changes)
    scale, epochs = float(changes.get("lr_scale", 1.0)), int(changes.get("epochs_delta", 0))
    examples = float(changes.get("examples_scale", 1.0))
    sweep = spec.sweep.model_copy(
        update={
            "max_epochs": spec.sweep.max_epochs + epochs,
            "max_examples": _scaled(spec.sweep.max_examples, examples),
            "space": {name: _rescaled(name, range_, scale) for name, range_ in spec.sweep.space.items()},
        }
    )
    defaults = dict(spec.hyperparameters)
    if LEARNING_RATE in defaults:
        defaults[LEARNING_RATE] *= scale
    if epochs:
        defaults["max_epochs"] = spec.trainer.max_epochs + epochs
    if spec.trainer.max_examples is not None and examples != 1.0:
        defaults["max_examples"] = _scaled(spec.trainer.max_examples, examples)
    return spec.model_copy(update={"sweep": sweep}), defaults


def trial_budget(trials: int, changes: Mapping[str, float]) -> int:
    """Trials of the study, with a failed gate's change."""
    return trials + int(changes.get("trials_delta", 0))


def draw(trial: Any, space: Space) -> dict[str, Any]:
    """A point of the space, drawn by an Optuna trial."""
    return {name: _draw(trial, name, range_) for name, range_ in space.items()}


def inside(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The part of `values` that the space searches, moved to its nearest edge where it lies outside."""
    return {name: _nearest(values[name], range_) for name, range_ in space.items() if name in values}


def grid(space: Space) -> dict[str, list[Any]]:
    """Points for a grid search: all choices, all whole numbers, and low, middle and high of continuous ranges."""
    return {name: _points(range_) for name, range_ in space.items()}


def _check(changes: Mapping[str, float]) -> None:
    unknown = set(changes) - ADJUST_KEYS
    if unknown:
        known = ", ".join(sorted(ADJUST_KEYS))
        raise UserError(f"unknown change {min(unknown)!r}", where="adjust", hint=f"known: {known}")
    for name, value in changes.items():
        floor = 0.0 if name.endswith("_delta") else math.nextafter(0.0, 1.0)
        if isinstance(value, bool) or not floor <= value < math.inf:
            raise UserError(f"{name} cannot be {value!r}", where="adjust")


def _scaled(count: int | None, factor: float) -> int | None:
    return None if count is None else max(1, round(count * factor))


def _rescaled(name: str, range_: SearchRange, scale: float) -> SearchRange:
    if name != LEARNING_RATE or not isinstance(range_, FloatRange):
        return range_
    return range_.model_copy(update={"low": range_.low * scale, "high": range_.high * scale})


def _draw(trial: Any, name: str, range_: SearchRange) -> Any:
    if isinstance(range_, FloatRange):
        return trial.suggest_float(name, range_.low, range_.high, log=range_.log)
    if isinstance(range_, IntRange):
        return trial.suggest_int(name, range_.low, range_.high, step=range_.step)
    return trial.suggest_categorical(name, range_.values)


def _nearest(value: Any, range_: SearchRange) -> Any:
    if isinstance(range_, FloatRange):
        return min(max(float(value), range_.low), range_.high)
    if isinstance(range_, IntRange):
        step = round((min(max(value, range_.low), range_.high) - range_.low) / range_.step)
        return range_.low + min(step, (range_.high - range_.low) // range_.step) * range_.step
    return value if value in range_.values else range_.values[0]


def _points(range_: SearchRange) -> list[Any]:
    if isinstance(range_, Choice):
        return list(range_.values)
    if isinstance(range_, IntRange):
        return list(range(range_.low, range_.high + 1, range_.step))
    parts = [index / (_GRID_POINTS - 1) for index in range(_GRID_POINTS)]
    if range_.log:
        return [range_.low * (range_.high / range_.low) ** part for part in parts]
    return [range_.low + (range_.high - range_.low) * part for part in parts]
