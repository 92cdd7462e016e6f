"""The spec of a search space: ranges and choices, and which of them apply when."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from include.spec.base import Name, SpecModel

CONTINUOUS_POINTS = 3  # of a grid, per range without a step: low, middle, high
_DIVIDES = 1e-8

Value = bool | int | float | str
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Range(SpecModel):
    """What all hyperparameters of the space have.

    Attributes:
        when: Searched only in trials in which each of these choices has one of these values; elsewhere the
            hyperparameter keeps its default.
    """

    when: dict[Name, list[Value]] = {}


class FloatRange(_Range):
    """A hyperparameter in [low, high]: continuous, or in steps from `low` on."""

    kind: Literal["float"]
    low: Finite
    high: Finite
    step: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        _check_ends(self.low, self.high, self.log)
        if self.step is not None:
            if self.log:
                raise ValueError("a log range has no step: leave out one of the two")
            _check_step(self.low, self.high, self.step)
        return self


class IntRange(_Range):
    """A whole-number hyperparameter in [low, high]."""

    kind: Literal["int"]
    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        _check_ends(self.low, self.high, self.log)
        if self.log and self.step != 1:
            raise ValueError("a log range has no step: leave out one of the two")
        _check_step(self.low, self.high, self.step)
        return self


class Choice(_Range):
    """A hyperparameter with listed values."""

    kind: Literal["choice"]
    values: list[Value] = Field(min_length=1)

    @model_validator(mode="after")
    def _differ(self) -> Choice:
        for index, value in enumerate(self.values):
            if value in self.values[:index]:  # Python's 1, 1.0 and True are equal, to a study as well
                raise ValueError(f"the value {value!r} is listed twice (1, 1.0 and true count as the same)")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{value!r} is no number")
        return self


SearchRange = Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]


def drawing_order(space: Mapping[str, FloatRange | IntRange | Choice]) -> list[str]:
    """The names of the space, each after those that its `when` asks about.

    Raises:
        ValueError: Conditions go round in a circle.
    """
    order: list[str] = []
    while len(order) < len(space):
        ready = [name for name, range_ in space.items() if name not in order and set(range_.when) <= set(order)]
        if not ready:
            stuck = sorted(set(space) - set(order))
            raise ValueError(f"the conditions of {', '.join(stuck)} wait for each other")
        order += ready
    return order


def applies(range_: FloatRange | IntRange | Choice, values: Mapping[str, Any]) -> bool:
    """Whether the hyperparameter is searched where the others have `values`; one that is not searched has none."""
    return all(name in values and values[name] in allowed for name, allowed in range_.when.items())


def grid_points(space: Mapping[str, FloatRange | IntRange | Choice]) -> Iterator[dict[str, Any]]:
    """Every point of the grid: all choices, all steps, and low, middle and high of ranges without a step."""
    yield from _extended({}, space, drawing_order(space))


def _extended(point: dict[str, Any], space: Mapping[str, Any], names: list[str]) -> Iterator[dict[str, Any]]:
    if not names:
        yield point
        return
    name, *rest = names
    if not applies(space[name], point):
        yield from _extended(point, space, rest)
        return
    for value in _values(space[name]):
        yield from _extended({**point, name: value}, space, rest)


def _values(range_: FloatRange | IntRange | Choice) -> Iterable[Any]:
    if isinstance(range_, Choice):
        return list(range_.values)
    if isinstance(range_, IntRange) and not range_.log:
        return range(range_.low, range_.high + 1, range_.step)  # of any length: nothing is made of it at once
    if range_.step is not None and isinstance(range_, FloatRange):
        count = round((range_.high - range_.low) / range_.step)
        step = range_.step
        return (min(range_.low + index * step, range_.high) for index in range(count + 1))
    parts = [index / (CONTINUOUS_POINTS - 1) for index in range(CONTINUOUS_POINTS)]
    if range_.log:
        found = [range_.low * (range_.high / range_.low) ** part for part in parts]
        found = [range_.low, *found[1:-1], range_.high]  # free of rounding at the ends
    else:
        found = [range_.low + (range_.high - range_.low) * part for part in parts]
    if isinstance(range_, IntRange):
        found = [round(value) for value in found]
    return list(dict.fromkeys(found))


def _check_ends(low: float, high: float, log: bool) -> None:
    if low > high:
        raise ValueError(f"low ({low:g}) is above high ({high:g})")
    if log and low <= 0:
        raise ValueError("a log range must start above 0")


def _check_step(low: float, high: float, step: float) -> None:
    steps = (high - low) / step
    if abs(steps - round(steps)) > _DIVIDES * max(1.0, steps):
        reached = low + math.floor(steps) * step
        raise ValueError(f"steps of {step:g} from {low:g} reach {reached:g}, and not high ({high:g})")


def check_condition(place: str, values: list[Value], other: FloatRange | IntRange | Choice | None) -> None:
    if not isinstance(other, Choice):
        raise ValueError(f"{place}: a condition asks about a `choice` of the space, which this is not")
    unknown = [value for value in values if value not in other.values]
    if unknown or not values:
        raise ValueError(f"{place}: give one or more of {other.values}" + (f", not {unknown[0]!r}" if unknown else ""))
