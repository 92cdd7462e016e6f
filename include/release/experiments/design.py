"""What an experiment is, declared before anybody sees a number. Pure.

Everything that a verdict depends on is fixed here: the variants and their weights, one primary metric, guardrail
metrics with the drop that is tolerated, how sure a claim must be, how long a unit is watched and how long its labels
may take. A design never changes once its experiment has begun; another question is another experiment.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from include.release.experiments.correction import Correction
from include.release.experiments.planning import MIN_UNITS, Plan, plan
from include.release.experiments.sequential import StatisticsError

#: Metrics that every answer has without a label.
ERROR, LATENCY = "error", "latency_ms"
#: From feedback: whether the answer helped.
HELPFUL = "helpful"
_WITHOUT_LABEL = frozenset({ERROR, LATENCY})
_SECONDS_PER_DAY = 86_400.0

_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Better(str, Enum):
    """Which way a metric is better."""

    HIGHER = "higher"
    LOWER = "lower"


class Metric(_Model):
    """A metric that is judged.

    Attributes:
        name: A label of the family's own (such as `hit_at_1`), `helpful`, `error` or `latency_ms`.
        margin: For a guardrail, how much worse a challenger may be, in the metric's unit.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    better: Better = Better.HIGHER
    margin: Annotated[float, Field(ge=0)] = 0.0

    @property
    def sign(self) -> float:
        return 1.0 if self.better is Better.HIGHER else -1.0


class Weighted(_Model):
    """A model version and its share of the units, relative to the others'."""

    version: Annotated[str, Field(min_length=1, max_length=32)]
    weight: _Positive = 1.0


class Design(_Model):
    """A declared experiment.

    Attributes:
        variants: The control (what serves now) first, then the challengers.
        mde: The smallest difference of the primary metric that is worth finding, in its own unit.
        baseline, sd: The control's primary metric as expected; `sd` of one unit, None for a rate.
        alpha: Chance of one false claim about the primary metric, over all challengers and all looks.
        max_days: After this long the experiment ends without proof.
        watch_seconds: How long after its first answer a unit's answers count; 0: its first answer only.
        label_delay_seconds: How long a label may take; later ones do not count, so that what is counted never changes.
        min_units: Units per variant, labels in, before anything is said.
        correction: Of the p-values of guardrails, over challengers and metrics. The primary metric always uses Holm's.
        cuped: Adjust by what the same units did before the experiment.
        lookback_days: How far back that is read.
    """

    name: _Name
    family: Annotated[str, Field(min_length=1, max_length=64)]
    variants: list[Weighted] = Field(min_length=2, max_length=10)
    primary: Metric
    guardrails: list[Metric] = []
    mde: _Positive
    baseline: float
    sd: _Positive | None = None
    alpha: Annotated[float, Field(ge=1e-6, le=0.2)] = 0.05
    power: Annotated[float, Field(ge=0.5, lt=1)] = 0.8
    max_days: _Positive
    watch_seconds: Annotated[float, Field(ge=0)] = _SECONDS_PER_DAY
    label_delay_seconds: Annotated[float, Field(ge=0)] = 3600.0
    min_units: Annotated[int, Field(ge=MIN_UNITS)] = MIN_UNITS
    correction: Correction = Correction.HOLM
    cuped: bool = False
    lookback_days: _Positive = 14.0

    @model_validator(mode="after")
    def _consistent(self) -> Design:
        versions = [variant.version for variant in self.variants]
        if len(set(versions)) != len(versions):
            raise ValueError(f"variants must differ: {', '.join(versions)}")
        names = [metric.name for metric in self.metrics]
        if len(set(names)) != len(names):
            raise ValueError(f"a metric can be named once: {', '.join(names)}")
        if self.primary.margin:
            raise ValueError("a margin goes with a guardrail; the primary metric has `mde`")
        if set(names) - _WITHOUT_LABEL and not self.label_delay_seconds:
            raise ValueError("say how long a label may take (`label_delay_seconds`): later ones do not count")
        try:
            self.plan()
        except StatisticsError as error:  # pydantic tells of the errors that it knows
            raise ValueError(error.message) from error
        return self

    @property
    def control(self) -> str:
        return self.variants[0].version

    @property
    def challengers(self) -> list[str]:
        return [variant.version for variant in self.variants[1:]]

    @property
    def weights(self) -> dict[str, float]:
        """Version -> weight."""
        return {variant.version: variant.weight for variant in self.variants}

    @property
    def metrics(self) -> list[Metric]:
        """The primary metric, then the guardrails."""
        return [self.primary, *self.guardrails]

    @property
    def ripe_seconds(self) -> float:
        """How long after a unit's first answer everything about it is known."""
        return self.watch_seconds + self.label_delay_seconds

    def plan(self, units_per_day: float | None = None) -> Plan:
        """How many units this needs; see `planning.plan`."""
        return plan(
            list(self.weights.values()),
            baseline=self.baseline,
            mde=self.mde,
            sd=self.sd,
            alpha=self.alpha,
            power=self.power,
            min_units=self.min_units,
            units_per_day=units_per_day,
            label_delay_days=self.ripe_seconds / _SECONDS_PER_DAY,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-serialisable record, as the ledger keeps it."""
        return self.model_dump(mode="json")
