"""The spec of the hyperparameter search: its sampler and pruner, what decides, and when it ends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from include.spec.base import Name, SpecModel
from include.spec.costs import ConvergenceSpec, SweepBudget
from include.spec.space import Finite, SearchRange, check_condition, drawing_order, grid_points

_MOST_POINTS = 1000  # of a grid: more is not searched exhaustively by anybody
_LESS_IS_BETTER = ("latency_p50_ms", "latency_p95_ms", "memory_mb", "package_mb")


class SecondSpec(SpecModel):
    """A second objective beside the sweep's metric: what serving a trial's model costs, or what its training reports.

    Attributes:
        metric: `latency_p50_ms`, `latency_p95_ms`, `throughput_per_second`, `memory_mb` or `package_mb`: the trial's
            model is exported and asked in the serving runtime. Any other name is a metric that validation gives, such
            as the number of parameters; that of the epoch which is best by the sweep's metric.
        requests: For measuring a cost, per trial.
        choose: Which trial of the Pareto front wins. `within`: the best metric among those within `limit` (where
            there are none, the one that is nearest to it). `knee`: the nearest to the ideal of both, each on the scale
            of its range on the front. `best`: the best metric, whatever it costs; the front is recorded all the same.
    """

    metric: Name
    direction: Literal["maximize", "minimize"] = "minimize"
    requests: Annotated[int, Field(ge=20, le=10_000)] = 100
    choose: Literal["within", "knee", "best"] = "within"
    limit: Finite | None = None

    @model_validator(mode="after")
    def _costs_are_saved(self) -> SecondSpec:
        better = {"throughput_per_second": "maximize"} | dict.fromkeys(_LESS_IS_BETTER, "minimize")
        if better.get(self.metric, self.direction) != self.direction:
            raise ValueError(f"{self.metric} is a cost of serving: set `direction: {better[self.metric]}`")
        return self

    @model_validator(mode="after")
    def _limit_belongs_to_within(self) -> SecondSpec:
        if (self.choose == "within") != (self.limit is not None):
            raise ValueError("`limit` goes with `choose: within`, which needs it")
        return self


class ConfirmSpec(SpecModel):
    """The best configurations of the sweep, trained again: the best of many trials was lucky as well as good.

    Attributes:
        top: Configurations.
        seeds: New seeds that each is trained with, as a trial is. The sweep's own seed does not count.
        spread: What decides is the mean less this many standard deviations.
    """

    top: Annotated[int, Field(ge=1, le=16)] = 2
    seeds: Annotated[int, Field(ge=2, le=64)] = 3
    spread: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0


class SweepSpec(SpecModel):
    """The hyperparameter search.

    Attributes:
        metric: Validation metric that trials report and the study optimises.
        second: What it optimises beside it; None: nothing.
        sampler: `tpe` (parzen estimators over all parameters together), `gp` (a Gaussian process: few, dear trials),
            `nsga2` (evolution: many, cheap trials), `random`, or `grid`: every combination, then it ends. A range
            without a step gives a grid its low, middle and high.
        pruner: What ends a trial early: `median` (worse than the median of the others after as many epochs), `halving`
            (the best third goes on, at 1, 3, 9, ... epochs), `hyperband` (several such brackets, some of them
            patient), or `none`.
        trials: Trials that finish or are pruned before the sweep ends, over all workers.
        workers: Mapped Airflow tasks that share the study.
        max_examples: Training examples per trial (None: all), so that a trial is cheaper than the final fit.
        max_epochs: Epochs per trial.
        budget: Minutes and money that end it earlier.
        convergence: When it ends earlier because it gets no better; None: never.
        confirm: How the best trials are repeated over seeds; None: they are not.
    """

    metric: Name
    direction: Literal["maximize", "minimize"] = "maximize"
    second: SecondSpec | None = None
    sampler: Literal["tpe", "gp", "nsga2", "random", "grid"] = "tpe"
    pruner: Literal["median", "halving", "hyperband", "none"] = "median"
    trials: Annotated[int, Field(ge=1)] = 8
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    max_examples: Annotated[int, Field(ge=1)] | None = None
    max_epochs: Annotated[int, Field(ge=1)] = 1
    budget: SweepBudget = SweepBudget()
    convergence: ConvergenceSpec | None = None
    confirm: ConfirmSpec | None = None
    space: dict[Name, SearchRange] = Field(min_length=1)

    @model_validator(mode="after")
    def _conditions_can_hold(self) -> SweepSpec:
        for name, range_ in self.space.items():
            for other, values in range_.when.items():
                check_condition(f"space.{name}.when.{other}", values, self.space.get(other))
        drawing_order(self.space)
        return self

    @model_validator(mode="after")
    def _two_objectives(self) -> SweepSpec:
        if self.second is None:
            return self
        if self.second.metric == self.metric:
            raise ValueError(f"second.metric is the sweep's own metric, {self.metric!r}")
        if self.pruner != "none":
            raise ValueError(
                f"pruner {self.pruner!r} ends trials by one metric and cannot weigh two: with `second`, set "
                "`pruner: none`"
            )
        if self.convergence is not None:
            raise ValueError("convergence looks at one metric: with `second`, leave it out")
        return self

    @model_validator(mode="after")
    def _grid_is_searched_whole(self) -> SweepSpec:
        if self.sampler != "grid":
            return self
        points = sum(1 for _ in zip(grid_points(self.space), range(_MOST_POINTS + 1), strict=False))
        if points > _MOST_POINTS:
            raise ValueError(f"the grid has more than {_MOST_POINTS} points: use another sampler, or larger steps")
        if points > self.trials:
            raise ValueError(
                f"the grid has {points} points and `trials` ends the sweep after {self.trials}: set trials to "
                f"{points + 1} (the defaults are tried, too), or narrow the space"
            )
        return self
