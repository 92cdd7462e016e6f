"""The spec of how weights move: the optimizer, and how the learning rate goes over the course of a training.

The learning rate itself, its warm-up and the weight decay may be hyperparameters of the family, which the sweep
searches; what a family's hyperparameters say goes before what is said here.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from include.spec.base import Fraction, SpecModel

_Beta = Annotated[float, Field(ge=0, lt=1)]
_Positive = Annotated[float, Field(gt=0)]


class AdamSpec(SpecModel):
    """Adam, with decoupled weight decay (`adamw`, Loshchilov and Hutter 2019) or without (`adam`).

    Attributes:
        weight_decay: Where the family's hyperparameters have none; on matrices only, never on biases and norms.
    """

    kind: Literal["adamw", "adam"] = "adamw"
    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    eps: _Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class SgdSpec(SpecModel):
    """Stochastic gradient descent. `weight_decay` as for Adam."""

    kind: Literal["sgd"]
    momentum: _Beta = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SgdSpec:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


OptimizerSpec = Annotated[AdamSpec | SgdSpec, Field(discriminator="kind")]


class _Schedule(SpecModel):
    """What all schedules have.

    Attributes:
        warmup_share: Share of all optimizer steps over which the rate rises in a line, where the family's
            hyperparameters have none.
    """

    warmup_share: Fraction = 0.0


class ConstantSchedule(_Schedule):
    """The rate stays where it is."""

    kind: Literal["constant"]


class DecaySchedule(_Schedule):
    """The rate falls until the last step: in a line, or as half a cosine (Loshchilov and Hutter 2017).

    Attributes:
        floor: Share of the rate that is left at the end.
    """

    kind: Literal["linear", "cosine"] = "linear"
    floor: Fraction = 0.0


class RestartSchedule(_Schedule):
    """As `cosine`, `cycles` times over, from the full rate each time."""

    kind: Literal["cosine_restarts"]
    cycles: Annotated[int, Field(ge=2)] = 2
    floor: Fraction = 0.0


class StepSchedule(_Schedule):
    """The rate is multiplied by `factor` at each milestone.

    Attributes:
        milestones: Shares of all steps after the warm-up, ascending: 0.5 is half-way, whatever the batch size.
    """

    kind: Literal["step"]
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(default=(0.5, 0.75), min_length=1)
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _ascending(self) -> StepSchedule:
        if any(first >= second for first, second in pairwise(self.milestones)):
            raise ValueError(f"the milestones {list(self.milestones)} are not ascending")
        return self


class PlateauSchedule(_Schedule):
    """The rate is multiplied by `factor` when `sweep.metric` got no better for `patience` epochs.

    Attributes:
        min_delta: By how much a value must be better than the best one, in the metric's own unit.
        floor: Share of the rate below which it does not go.
    """

    kind: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 2
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    floor: Fraction = 0.0


SchedulerSpec = Annotated[
    ConstantSchedule | DecaySchedule | RestartSchedule | StepSchedule | PlateauSchedule, Field(discriminator="kind")
]
#: Tags of the unions above, which pydantic puts into the places of its errors.
KINDS = frozenset({"adamw", "adam", "sgd", "constant", "linear", "cosine", "cosine_restarts", "step", "plateau"})
