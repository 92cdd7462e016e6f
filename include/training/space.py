"""The search space: what a failed gate changes about it, and how Optuna draws from it. Pure but for the drawing."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from include.errors import UserError
from include.evaluation.adjust import ADJUST_KEYS
from include.spec.models import FamilySpec
from include.spec.space import Choice, FloatRange, IntRange, SearchRange, applies, drawing_order, grid_points

LEARNING_RATE = "learning_rate"

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
    """A point of the space, drawn by an Optuna trial; without what the point's own choices leave out."""
    values: dict[str, Any] = {}
    for name in drawing_order(space):
        if applies(space[name], values):
            values[name] = _draw(trial, name, space[name])
    return values


def inside(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The part of `values` that the space searches, moved to its nearest edge where it lies outside."""
    found: dict[str, Any] = {}
    for name in drawing_order(space):
        if name in values and applies(space[name], found):
            found[name] = _nearest(values[name], space[name])
    return found


def shuffled_grid(space: Space, first: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
    """Every point of the grid, with `first` before all others and once only, the rest in an order of the seed's."""
    points = [point for point in grid_points(space) if point != dict(first)]
    random.Random(seed).shuffle(points)
    return [dict(first), *points]


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
    if name != LEARNING_RATE or scale == 1.0:
        return range_
    if isinstance(range_, Choice):
        values = [value * scale if _is_number(value) else value for value in range_.values]  # type: ignore[operator]
        return range_.model_copy(update={"values": values})
    if isinstance(range_, IntRange):
        return range_
    step = None if range_.step is None else range_.step * scale
    return range_.model_copy(update={"low": range_.low * scale, "high": range_.high * scale, "step": step})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _draw(trial: Any, name: str, range_: SearchRange) -> Any:
    if isinstance(range_, FloatRange):
        return trial.suggest_float(name, range_.low, range_.high, step=range_.step, log=range_.log)
    if isinstance(range_, IntRange):
        return trial.suggest_int(name, range_.low, range_.high, step=range_.step, log=range_.log)
    return trial.suggest_categorical(name, range_.values)


def _nearest(value: Any, range_: SearchRange) -> Any:
    if isinstance(range_, Choice):
        return value if value in range_.values else range_.values[0]
    within = min(max(value, range_.low), range_.high)
    if range_.step is None:
        return float(within)
    steps = round((within - range_.low) / range_.step)
    nearest = min(range_.low + steps * range_.step, range_.high)
    return nearest if isinstance(range_, IntRange) else float(nearest)
