"""How many units an experiment needs, and for how long. Pure.

Sizes for a test that is looked at once, and for one that may be looked at any time. The second costs more at the
planned size (about 1.9 times at alpha 5% and power 80%), is the most that will be needed, and stops sooner where the
effect is larger than the smallest one of interest.

Sources: J. Fleiss, B. Levin and M. Paik, "Statistical Methods for Rates and Proportions", 3rd edition (2003), section
4.2, without continuity correction; normal approximation for means. Several challengers share alpha equally (Bonferroni:
at least what Holm's method needs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from include.release.experiments.sequential import StatisticsError, tightest

#: No verdict on fewer units per variant, whatever the formula says.
MIN_UNITS = 1000
_NORMAL = NormalDist()


def two_proportions(first: float, second: float, *, alpha: float, power: float, ratio: float = 1.0) -> float:
    """Units in the first group that tell the rates apart (two-sided); the second group has `ratio` times as many.

    Raises:
        StatisticsError: A rate outside of [0, 1], equal rates, or an impossible alpha, power or ratio.
    """
    _check(alpha, power, ratio)
    if not (0.0 <= first <= 1.0 and 0.0 <= second <= 1.0) or first == second:
        raise StatisticsError(f"rates {first:g} and {second:g} must lie between 0 and 1, and differ")
    common = (first + ratio * second) / (1.0 + ratio)
    null = math.sqrt((1.0 + 1.0 / ratio) * common * (1.0 - common))
    apart = math.sqrt(first * (1.0 - first) + second * (1.0 - second) / ratio)
    return ((_z(1.0 - alpha / 2.0) * null + _z(power) * apart) / (second - first)) ** 2


def two_means(sd: float, difference: float, *, alpha: float, power: float, ratio: float = 1.0) -> float:
    """Units in the first group that tell two means apart that differ by `difference` (two-sided).

    Raises:
        StatisticsError: No spread, no difference, or an impossible alpha, power or ratio.
    """
    _check(alpha, power, ratio)
    if not sd > 0.0 or not difference:
        raise StatisticsError("means need a spread and a difference above 0")
    return (1.0 + 1.0 / ratio) * (sd * (_z(1.0 - alpha / 2.0) + _z(power)) / difference) ** 2


def detectable(n: float, sd: float, *, alpha: float, power: float, ratio: float = 1.0) -> float:
    """The smallest difference of means that n units in the first group tell apart; `two_means` the other way round."""
    _check(alpha, power, ratio)
    if not n > 0:
        raise StatisticsError("a detectable effect needs units")
    return sd * math.sqrt((1.0 + 1.0 / ratio) / n) * (_z(1.0 - alpha / 2.0) + _z(power))


def price_of_looking(alpha: float, power: float) -> float:
    """Times as many units as a test that is looked at once, for one that is always valid, at the planned size."""
    return ((tightest(alpha) + _z(power)) / (_z(1.0 - alpha / 2.0) + _z(power))) ** 2


@dataclass(frozen=True)
class Plan:
    """What an experiment needs.

    Attributes:
        alpha_each: Significance level of each comparison with the control.
        once: Units per variant, in the order of the weights, for a single look at the end.
        always: Units per variant for looks at any time; the most that is needed.
        detectable: Smallest difference that `always` units of the smallest variant would show.
        days, days_once: How long it takes until so many have come and their labels are in; None without an arrival
            rate.
    """

    alpha_each: float
    once: tuple[int, ...]
    always: tuple[int, ...]
    detectable: float
    days: float | None
    days_once: float | None

    def to_json(self) -> dict[str, Any]:
        """JSON-serialisable record."""
        return asdict(self)


def plan(
    weights: Sequence[float],
    *,
    baseline: float,
    mde: float,
    sd: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
    min_units: int = MIN_UNITS,
    units_per_day: float | None = None,
    label_delay_days: float = 0.0,
) -> Plan:
    """Units and days for an experiment.

    Args:
        weights: Weights of the variants; the first is the control.
        baseline: The control's mean, or rate where `sd` is None.
        mde: Smallest difference worth finding, in the metric's own unit, above 0.
        sd: Standard deviation of one unit; None for a rate.
        units_per_day: New units that come each day, over all variants.

    Raises:
        StatisticsError: Values that nothing can be planned from.
    """
    if len(weights) < 2 or not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise StatisticsError("a plan needs a control and a challenger, with weights above 0")
    if not mde > 0:
        raise StatisticsError("the smallest difference worth finding must be above 0")
    alpha_each = alpha / (len(weights) - 1)
    ratio = min(weights[1:]) / weights[0]  # the smallest challenger decides
    if sd is None:
        up, down = baseline + mde, baseline - mde
        reachable = [rate for rate in (up, down) if 0.0 <= rate <= 1.0]
        if not reachable or not 0.0 <= baseline <= 1.0:
            raise StatisticsError(f"a rate of {baseline:g} cannot change by {mde:g}", hint="give `sd` for a mean")
        control = max(two_proportions(baseline, rate, alpha=alpha_each, power=power, ratio=ratio) for rate in reachable)
        spread = math.sqrt(max(baseline * (1.0 - baseline), *(rate * (1.0 - rate) for rate in reachable)))
    else:
        control = two_means(sd, mde, alpha=alpha_each, power=power, ratio=ratio)
        spread = sd
    price = price_of_looking(alpha_each, power)
    floor = min_units / min(weights)
    once = _spread_over(weights, max(control / weights[0], floor))
    always = _spread_over(weights, max(control * price / weights[0], floor))
    smallest = detectable(always[0], spread, alpha=alpha_each, power=power, ratio=ratio) * math.sqrt(price)
    return Plan(
        alpha_each=alpha_each,
        once=once,
        always=always,
        detectable=smallest,
        days=_days(always, units_per_day, label_delay_days),
        days_once=_days(once, units_per_day, label_delay_days),
    )


def _spread_over(weights: Sequence[float], per_weight: float) -> tuple[int, ...]:
    return tuple(math.ceil(round(weight * per_weight, 6)) for weight in weights)


def _days(units: Sequence[int], per_day: float | None, delay: float) -> float | None:
    if per_day is None:
        return None
    if not per_day > 0:
        raise StatisticsError("units per day must be above 0")
    return round(sum(units) / per_day + delay, 2)


def _z(level: float) -> float:
    return _NORMAL.inv_cdf(level)


def _check(alpha: float, power: float, ratio: float) -> None:
    if not (0.0 < alpha < 1.0 and 0.0 < power < 1.0 and math.isfinite(ratio) and ratio > 0.0):
        raise StatisticsError("alpha and power must lie between 0 and 1, and the ratio of sizes above 0")
