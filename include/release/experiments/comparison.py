"""One challenger against the control on one metric: the interval, the p-value, and what they allow to say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from include.release.experiments.correction import Correction, adjusted
from include.release.experiments.design import Design, Metric
from include.release.experiments.estimate import (
    Difference,
    Estimate,
    Sums,
    cohens_d,
    cohens_h,
    difference,
    estimates,
    relative,
    variance_saved,
)
from include.release.experiments.sequential import best_precision, boundary, p_value


class State(str, Enum):
    """Where a challenger stands."""

    WINS = "wins"
    LOSES = "loses"
    OPEN = "open"


@dataclass(frozen=True)
class Comparison:
    """A challenger minus the control.

    Attributes:
        value, control: The metric in the challenger and in the control; None without data.
        low, high: Interval of the difference that holds at all looks and for all challengers together.
        p_value, adjusted: Of no difference, or for a guardrail of a loss of exactly its margin; adjusted for the other
            questions that are asked.
        gain: The difference, positive where the challenger is better.
        effect: Cohen's h for shares, d for means; `lift` the difference as a share of the control, with interval.
        units, units_control: Units that count; nothing is said below the design's minimum (`enough`).
        saved: Share of the variance that CUPED took away; None without it.
    """

    version: str
    metric: str
    units: int
    units_control: int
    enough: bool
    alpha: float
    margin: float
    sign: float
    value: float | None = None
    control: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float = 1.0
    adjusted: float = 1.0
    effect: float | None = None
    lift: tuple[float, float, float] | None = None
    saved: float | None = None

    @property
    def gain(self) -> float:
        return 0.0 if self.difference is None else self.sign * self.difference

    @property
    def worst_gain(self) -> float:
        """The end of the interval on the bad side."""
        return (
            float("-inf") if self.low is None or self.high is None else min(self.sign * self.low, self.sign * self.high)
        )

    @property
    def best_gain(self) -> float:
        """The end of the interval on the good side."""
        return (
            float("inf") if self.low is None or self.high is None else max(self.sign * self.low, self.sign * self.high)
        )

    @property
    def harmless(self) -> bool:
        """Surely not worse than the margin allows."""
        return self.enough and self.worst_gain >= -self.margin

    @property
    def harmful(self) -> bool:
        """Surely worse than the margin allows."""
        return self.enough and self.adjusted <= self.alpha and self.gain < -self.margin

    def sentence(self) -> str:
        """The comparison in words."""
        if self.difference is None or self.value is None or self.control is None:
            return f"{self.metric} (no values yet)"
        interval = f"[{self.low:+.4g}, {self.high:+.4g}]"
        units = f"n = {self.units} and {self.units_control}"
        return f"{self.metric} {self.value:.4g} against {self.control:.4g}, {self.difference:+.4g} {interval}, {units}"

    def to_json(self) -> dict[str, Any]:
        """JSON-serialisable record."""
        return {**asdict(self), "lift": list(self.lift) if self.lift else None}


def compare(design: Design, metrics: Mapping[str, tuple[Mapping[str, Sums], bool]]) -> list[Comparison]:
    """Every challenger on every metric of the design, the primary metric first.

    Args:
        metrics: Metric -> (version -> sums, whether every value lies between 0 and 1).
    """
    found: list[Comparison] = []
    for rank, metric in enumerate(design.metrics):
        groups, share = metrics.get(metric.name, ({}, False))
        plain = estimates(groups, share=share)
        used = estimates(groups, share=share, cuped=True) if design.cuped else plain
        saved = variance_saved(used, plain) if design.cuped else None
        found += [
            _one(design, metric, version, groups, used, share, saved, rank == 0) for version in design.challengers
        ]
    primary, rails = found[: len(design.challengers)], found[len(design.challengers) :]
    return _corrected(primary, Correction.HOLM) + _corrected(rails, design.correction)


def primary_state(design: Design, found: Comparison) -> tuple[State, str]:
    """Where a challenger stands by its primary metric alone, and why."""
    version, control = found.version, design.control
    if not found.enough:
        fewest = min(found.units, found.units_control)
        return State.OPEN, (
            f"{version}: {fewest} units whose {found.metric} is known; "
            f"nothing is said below {design.min_units} per variant"
        )
    if found.adjusted <= design.alpha:
        better = found.gain > 0
        return (State.WINS if better else State.LOSES), (
            f"{version} is surely {'better' if better else 'worse'} than {control}: {found.sentence()}"
        )
    if found.best_gain < design.mde:
        return State.LOSES, f"{version} is surely not better than {control} by {design.mde:g}: {found.sentence()}"
    return State.OPEN, f"{version} may be better or worse than {control}: {found.sentence()}"


def _one(
    design: Design,
    metric: Metric,
    version: str,
    groups: Mapping[str, Sums],
    used: Mapping[str, Estimate],
    share: bool,
    saved: float | None,
    primary: bool,
) -> Comparison:
    units, units_control = (groups[name].n if name in groups else 0 for name in (version, design.control))
    plain = Comparison(
        version=version,
        metric=metric.name,
        units=units,
        units_control=units_control,
        enough=min(units, units_control) >= design.min_units,
        alpha=design.alpha,
        margin=metric.margin,
        sign=metric.sign,
    )
    mine, theirs = used.get(version), used.get(design.control)
    if mine is None or theirs is None:
        return plain
    gap = difference(mine, theirs)
    if gap.error == 0.0:
        return plain  # no spread at all: how sure this is cannot be known
    alpha = design.alpha / len(design.challengers)
    precision = _precision(design, version, alpha)
    reach = boundary(gap.n, alpha, precision)
    lift = relative(mine, theirs)
    shift = 0.0 if primary else metric.sign * metric.margin
    return replace(
        plain,
        value=mine.value,
        control=theirs.value,
        difference=gap.value,
        low=gap.value - reach * gap.error,
        high=gap.value + reach * gap.error,
        p_value=p_value((gap.value + shift) / gap.error, gap.n, precision),
        effect=cohens_h(mine.value, theirs.value) if share else cohens_d(mine, theirs),
        lift=_around(lift, reach) if lift else None,
        saved=saved,
    )


def _precision(design: Design, version: str, alpha: float) -> float:
    """Tightest at the planned size of the two variants that are compared."""
    planned = dict(zip(design.weights, design.plan().always, strict=True))
    return best_precision(planned[version] + planned[design.control], alpha)


def _around(found: Difference, reach: float) -> tuple[float, float, float]:
    return found.value, found.value - reach * found.error, found.value + reach * found.error


def _corrected(found: list[Comparison], correction: Correction) -> list[Comparison]:
    p_values = adjusted([item.p_value for item in found], correction)
    return [replace(item, adjusted=value) for item, value in zip(found, p_values, strict=True)]
