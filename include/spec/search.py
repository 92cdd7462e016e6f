"""The spec of the hyperparameter search: its space, its sampler, and when it ends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from include.spec.base import Name, SpecModel
from include.spec.costs import ConvergenceSpec, SweepBudget


class FloatRange(SpecModel):
    """A continuous hyperparameter in [low, high]."""

    kind: Literal["float"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError("a log range must start above 0")
        return self


class IntRange(SpecModel):
    """A whole-number hyperparameter in [low, high]."""

    kind: Literal["int"]
    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        return self


class Choice(SpecModel):
    """A hyperparameter with listed values."""

    kind: Literal["choice"]
    values: list[bool | int | float | str] = Field(min_length=1)


SearchRange = Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]


class SweepSpec(SpecModel):
    """The hyperparameter search.

    Attributes:
        metric: Validation metric that trials report and the study optimises.
        trials: Trials that finish or are pruned before the sweep ends, over all workers.
        workers: Mapped Airflow tasks that share the study.
        max_examples: Training examples per trial (None: all), so that a trial is cheaper than the final fit.
        max_epochs: Epochs per trial.
        budget: Minutes and money that end it earlier.
        convergence: When it ends earlier because it gets no better; None: never.
    """

    metric: Name
    direction: Literal["maximize", "minimize"] = "maximize"
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    pruner: Literal["median", "none"] = "median"
    trials: Annotated[int, Field(ge=1)] = 8
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    max_examples: Annotated[int, Field(ge=1)] | None = None
    max_epochs: Annotated[int, Field(ge=1)] = 1
    budget: SweepBudget = SweepBudget()
    convergence: ConvergenceSpec | None = None
    space: dict[Name, SearchRange] = Field(min_length=1)
