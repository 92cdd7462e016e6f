"""What a metric is in each variant, and how far two variants are apart. Pure; from sums, so that it can be replayed.

The unit (a user, a session) is what was assigned by chance, so it is what counts: a metric is the mean over all answers
of a variant, but its error comes from the spread between units (the delta method for a ratio of means; A. Deng, U.
Knoblich and J. Lu, "Applying the delta method in metric analytics", KDD 2018). Treating the answers of one unit as
independent would make the intervals too narrow.

CUPED takes off what a unit already was before the experiment: the estimate is corrected by theta times the imbalance of
a covariate from before, which changes no expectation and removes the variance that the covariate explains (A. Deng, Y.
Xu, R. Kohavi and T. Walker, "Improving the sensitivity of online controlled experiments by utilizing pre-experiment
data", WSDM 2013).

A share of which every unit says the same has no spread to estimate; two imagined units, one wrong and one right, keep
its interval from closing (A. Agresti and B. Caffo, The American Statistician 54 (2000), 280-288).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field


class Sums(BaseModel):
    """Sums over the units of one variant: `y` total of the metric, `m` number of values, `x` the covariate.

    Attributes:
        n: Units.
        y, m, x, yy, ...: Sum over units of y, m, x, y * y, and so on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    n: int = Field(ge=0)
    y: float = 0.0
    m: float = 0.0
    x: float = 0.0
    yy: float = 0.0
    mm: float = 0.0
    xx: float = 0.0
    ym: float = 0.0
    xy: float = 0.0
    xm: float = 0.0

    @classmethod
    def of(cls, y: ArrayLike, m: ArrayLike | None = None, x: ArrayLike | None = None) -> Sums:
        """Of arrays with one value per unit, shape (n,); `m` is 1 and `x` 0 where not given."""
        total = np.asarray(y, dtype=np.float64)
        count = np.ones_like(total) if m is None else np.asarray(m, dtype=np.float64)
        before = np.zeros_like(total) if x is None else np.asarray(x, dtype=np.float64)
        return cls(
            n=total.size,
            y=float(total.sum()),
            m=float(count.sum()),
            x=float(before.sum()),
            yy=float(total @ total),
            mm=float(count @ count),
            xx=float(before @ before),
            ym=float(total @ count),
            xy=float(before @ total),
            xm=float(before @ count),
        )


@dataclass(frozen=True)
class Estimate:
    """A metric in one variant.

    Attributes:
        value: The mean over answers, adjusted by the covariate.
        raw: The same without the adjustment.
        error: Standard error of `value`.
        sd: Standard deviation of one unit.
    """

    value: float
    raw: float
    error: float
    sd: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A challenger minus the control, with its standard error over `n` units of both."""

    value: float
    error: float
    n: int


def estimates(groups: Mapping[str, Sums], *, share: bool, cuped: bool = False) -> dict[str, Estimate]:
    """The metric in every variant that has at least two units and one value; the others are left out.

    Args:
        share: Every value lies between 0 and 1.
        cuped: Adjust by the covariate, with one theta for all variants.
    """
    usable = {name: sums for name, sums in groups.items() if sums.n >= 2 and sums.m > 0}
    parts = {name: _residuals(sums, share) for name, sums in usable.items()}
    theta, centre = _theta(usable, parts) if cuped else (0.0, 0.0)
    found = {}
    for name, sums in usable.items():
        raw, spread, covariance, before = parts[name]
        variance = max(0.0, spread - 2.0 * theta * covariance + theta * theta * before)
        value = raw - theta * (sums.x / sums.n - centre)
        found[name] = Estimate(value, raw, math.sqrt(variance / sums.n), math.sqrt(variance), sums.n)
    return found


def difference(challenger: Estimate, control: Estimate) -> Difference:
    """Challenger minus control."""
    error = math.hypot(challenger.error, control.error)
    return Difference(challenger.value - control.value, error, challenger.n + control.n)


def relative(challenger: Estimate, control: Estimate) -> Difference | None:
    """The difference as a share of the control (delta method); None where the control is not surely away from 0."""
    if abs(control.value) <= 4.0 * control.error:
        return None
    ratio = challenger.value / control.value
    error = math.hypot(challenger.error, ratio * control.error) / abs(control.value)
    return Difference(ratio - 1.0, error, challenger.n + control.n)


def cohens_d(challenger: Estimate, control: Estimate) -> float | None:
    """The difference in standard deviations of one unit (J. Cohen, 1988, chapter 2); None without any spread."""
    squares = (challenger.n - 1) * challenger.sd**2 + (control.n - 1) * control.sd**2
    pooled = math.sqrt(squares / (challenger.n + control.n - 2))
    return (challenger.value - control.value) / pooled if pooled > 0 else None


def cohens_h(challenger: float, control: float) -> float:
    """The difference of two rates on the arcsine scale (J. Cohen, 1988, chapter 6)."""
    first, second = (2.0 * math.asin(math.sqrt(min(max(rate, 0.0), 1.0))) for rate in (challenger, control))
    return first - second


def variance_saved(adjusted: Mapping[str, Estimate], plain: Mapping[str, Estimate]) -> float:
    """Share of the variance that CUPED took away, over all variants."""
    before = math.fsum(item.sd**2 for item in plain.values())
    after = math.fsum(adjusted[name].sd ** 2 for name in plain)
    return 1.0 - after / before if before > 0 else 0.0


def _residuals(sums: Sums, share: bool) -> tuple[float, float, float, float]:
    """The ratio, and per unit: variance of its linearised value, covariance with the covariate, variance of that."""
    ratio, per_unit = sums.y / sums.m, sums.m / sums.n
    squares = sums.yy - 2.0 * ratio * sums.ym + ratio * ratio * sums.mm
    degrees = sums.n - 1
    if share:
        squares += per_unit**2 * (ratio**2 + (1.0 - ratio) ** 2)
        degrees += 2
    mean = sums.x / sums.n
    covariance = (sums.xy - ratio * sums.xm) / per_unit / (sums.n - 1)  # the linearised values sum to 0
    before = max(0.0, sums.xx - sums.n * mean * mean) / (sums.n - 1)
    return ratio, max(0.0, squares) / per_unit**2 / degrees, covariance, before


def _theta(groups: Mapping[str, Sums], parts: Mapping[str, tuple[float, float, float, float]]) -> tuple[float, float]:
    """The pooled regression on the covariate, and the covariate's mean over all units."""
    covariance = math.fsum(parts[name][2] * (sums.n - 1) for name, sums in groups.items())
    before = math.fsum(parts[name][3] * (sums.n - 1) for name, sums in groups.items())
    units = sum(sums.n for sums in groups.values())
    if before <= 1e-12 * max(1.0, math.fsum(sums.xx for sums in groups.values())):
        return 0.0, 0.0
    return covariance / before, math.fsum(sums.x for sums in groups.values()) / units
