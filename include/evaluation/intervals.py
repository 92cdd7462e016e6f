"""Confidence intervals over examples: bootstrap for means and paired differences, order statistics for quantiles.

The examples are what was sampled, so they are what is resampled. A difference between two models is always taken on the
same examples (paired): most of the spread between examples is common to both models and cancels.

Two intervals of the mean are offered. `percentile` is the plain one; `bca` (bias-corrected and accelerated, the
default) also corrects for skew, which matters for what gates look at: rare misses, where 99 of 100 examples agree.

A sample in which every value is the same has a bootstrap distribution without any width, and would prove anything about
the examples that were not drawn. There the interval comes from the share of other values that such a sample cannot rule
out, `1 - (alpha / 2) ** (1 / n)` (Clopper and Pearson's bound at zero successes), put at the far end of the metric's
range.

Sources: B. Efron, "Better bootstrap confidence intervals", JASA 82 (1987), 171-185, equations 2.3 and 6.6;
B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 and 14; C. Clopper and E. Pearson,
Biometrika 26 (1934), 404-413; W. Conover, "Practical Nonparametric Statistics", 3rd edition (1999), section 3.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from include.errors import DataError

Floats = NDArray[np.float64]
Method = Literal["bca", "percentile"]

#: Values drawn at a time: bounds the memory of a resampling at about 32 MB whatever the number of examples.
_BLOCK = 4_000_000
#: Up to so many different values, drawing how often each value comes up is cheaper than drawing examples.
_FEW_LEVELS = 64
_NORMAL = NormalDist()


class IntervalError(DataError):
    """An interval cannot be computed: no examples, or values that are not numbers."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        value: The estimate on all examples.
        low: Lower end of the interval.
        high: Upper end.
        n: Number of examples.
        sd: Standard deviation of one example (0 where all are alike).
    """

    value: float
    low: float
    high: float
    n: int
    sd: float

    def to_json(self) -> dict[str, float | int]:
        """JSON-serialisable record of the fields."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n, "sd": self.sd}


def mean_interval(
    values: ArrayLike,
    *,
    confidence: float,
    resamples: int,
    seed: int,
    bounds: tuple[float, float] | None = None,
    method: Method = "bca",
) -> Interval:
    """Bootstrap interval of the mean of `values`, shape (n,).

    Args:
        bounds: Least and greatest value that the metric can take; used where all values are the same.

    Raises:
        IntervalError: There is no value, or one that is not finite.
    """
    sample = _checked(values)
    n, mean = sample.size, float(sample.mean())
    if np.ptp(sample) == 0.0:
        low, high = _ends_when_all_alike(float(sample[0]), n, confidence, bounds)
        return Interval(float(sample[0]), low, high, n, 0.0)
    means = np.sort(_resampled_means(sample, resamples, np.random.default_rng(seed)))
    tail = (1.0 - confidence) / 2.0
    ends = (tail, 1.0 - tail) if method == "percentile" else _bca_levels(sample, means, mean, tail)
    low, high = (float(end) for end in np.quantile(means, ends))
    return Interval(mean, min(low, mean), max(high, mean), n, float(sample.std(ddof=1)))


def paired_interval(
    candidate: ArrayLike,
    reference: ArrayLike,
    *,
    confidence: float,
    resamples: int,
    seed: int,
    bounds: tuple[float, float] | None = None,
    method: Method = "bca",
) -> Interval:
    """Bootstrap interval of mean(candidate - reference); both hold the same examples in the same order, shape (n,).

    Args:
        bounds: Least and greatest value of the metric itself; a difference then lies between their distance, both ways.

    Raises:
        IntervalError: The two differ in length, or `mean_interval` raises it.
    """
    left, right = _checked(candidate), _checked(reference)
    if left.size != right.size:
        raise IntervalError(f"a paired difference needs the same examples on both sides: {left.size} and {right.size}")
    reach = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    return mean_interval(
        left - right, confidence=confidence, resamples=resamples, seed=seed, bounds=reach, method=method
    )


def quantile_interval(values: ArrayLike, quantile: float, *, confidence: float) -> Interval:
    """The `quantile` of `values` with a distribution-free interval from order statistics (Conover, section 3.2).

    The ends are observed values, so with few of them the upper end of a high quantile is the largest one seen: a p95
    needs about 75 values before 95% confidence is reached.
    """
    sample = np.sort(_checked(values))
    n = sample.size
    below = _binomial_cumulative(n, quantile)  # below[k] = P(at most k of n values lie under the true quantile)
    tail = (1.0 - confidence) / 2.0
    low = max(int(np.searchsorted(below, tail, side="right")) - 1, 0)
    high = min(int(np.searchsorted(below, 1.0 - tail, side="left")), n - 1)
    value = float(np.quantile(sample, quantile))
    spread = float(sample.std(ddof=1)) if n > 1 else 0.0
    return Interval(value, min(float(sample[low]), value), max(float(sample[high]), value), n, spread)


def paired_quantile_interval(
    candidate: ArrayLike, reference: ArrayLike, quantile: float, *, confidence: float, resamples: int, seed: int
) -> Interval:
    """Percentile bootstrap of quantile(candidate) - quantile(reference), resampling pairs, shape (n,) each.

    Measurements taken in turns share what the machine was doing at that moment; pairs keep that together.
    """
    left, right = _checked(candidate), _checked(reference)
    if left.size != right.size:
        raise IntervalError(f"pairs are needed: {left.size} and {right.size} measurements")
    rng, n = np.random.default_rng(seed), left.size
    rows = max(1, _BLOCK // n)
    blocks = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, n, size=(min(rows, resamples - start), n))
        blocks.append(np.quantile(left[drawn], quantile, axis=1) - np.quantile(right[drawn], quantile, axis=1))
    tail = (1.0 - confidence) / 2.0
    low, high = (float(end) for end in np.quantile(np.concatenate(blocks), (tail, 1.0 - tail)))
    value = float(np.quantile(left, quantile) - np.quantile(right, quantile))
    spread = float((left - right).std(ddof=1)) if n > 1 else 0.0
    return Interval(value, min(low, value), max(high, value), n, spread)


def exact(value: float) -> Interval:
    """A measurement without spread, such as the size of a file."""
    return Interval(value, value, value, 1, 0.0)


def _checked(values: ArrayLike) -> Floats:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise IntervalError("an interval needs at least one example", hint="is the split empty?")
    if not np.isfinite(sample).all():
        bad = int(np.flatnonzero(~np.isfinite(sample))[0])
        raise IntervalError("a metric has a value that is not a finite number", where=f"example {bad}")
    return sample


def _ends_when_all_alike(
    value: float, n: int, confidence: float, bounds: tuple[float, float] | None
) -> tuple[float, float]:
    if bounds is None:
        return value, value
    unseen = 1.0 - ((1.0 - confidence) / 2.0) ** (1.0 / n)
    least, greatest = min(bounds[0], value), max(bounds[1], value)
    return value - unseen * (value - least), value + unseen * (greatest - value)


def _resampled_means(sample: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Means of `resamples` samples drawn with replacement, shape (resamples,)."""
    n = sample.size
    levels, counts = np.unique(sample, return_counts=True)
    if levels.size <= _FEW_LEVELS:
        drawn = rng.multinomial(n, counts / n, size=resamples)
        means: Floats = drawn @ levels / n
        return means
    rows = max(1, _BLOCK // n)
    blocks = [
        sample[rng.integers(0, n, size=(min(rows, resamples - start), n))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(blocks)


def _bca_levels(sample: Floats, means: Floats, mean: float, tail: float) -> tuple[float, float]:
    """Quantile levels of the bootstrap distribution that make the BCa interval (Efron 1987, equations 2.3 and 6.6)."""
    resamples = means.size
    # Ties count half: the means of 0/1 outcomes take few values, and one of them is the estimate itself.
    slack = 1e-12 * max(1.0, abs(mean))
    share = (np.count_nonzero(means < mean - slack) + np.count_nonzero(means <= mean + slack)) / (2.0 * resamples)
    bias = _NORMAL.inv_cdf(min(max(share, 0.5 / resamples), 1.0 - 0.5 / resamples))
    centred = sample - mean
    # The acceleration of a mean from the jackknife, in closed form: without x the mean moves by (mean - x) / (n - 1).
    skew = float((centred**3).sum()) / (6.0 * float((centred**2).sum()) ** 1.5)

    def level(z: float) -> float:
        shrink = 1.0 - skew * (bias + z)
        return _NORMAL.cdf(bias + (bias + z) / shrink) if shrink > 0.0 else float(z > 0.0)

    z = _NORMAL.inv_cdf(1.0 - tail)
    return level(-z), level(z)


def _binomial_cumulative(n: int, p: float) -> Floats:
    """P(X <= k) for k = 0..n of a binomial, by its log probabilities."""
    k = np.arange(n + 1)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1)))))
    log_choose = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
    log_p = log_choose + k * math.log(p) + (n - k) * math.log1p(-p)
    cumulative: Floats = np.minimum(np.cumsum(np.exp(log_p)), 1.0)
    return cumulative
