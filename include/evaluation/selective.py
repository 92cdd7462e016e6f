"""Answer only when sure enough: the confidence above which a promised accuracy holds, and how often that answers. Pure.

The threshold that looks right on some examples is right on them partly by luck, and the more thresholds are tried the
more luck. *Learn then Test* takes the luck out (A. Angelopoulos, S. Bates, E. Candes, M. Jordan and L. Lei, "Learn then
Test: calibrating predictive algorithms to achieve risk control", Annals of Applied Statistics 19 (2025), 1641-1662):
that the promise is broken at a threshold is a hypothesis, and a threshold may be used once its hypothesis is refuted.
A part of the examples, drawn at random, says which thresholds to test and where to begin; the others test them, from
there to ever looser ones, each at the full level, until the first one that is not refuted (fixed-sequence testing).
With a chance of at least 1 - `delta` over the draw of the examples, the accuracy on what is answered above the returned
threshold is at least the target. That speaks of examples like these, not of a single answer.

The p-value of a threshold is the exact binomial one (the promise is refuted where Clopper and Pearson's upper bound of
the errors lies under what is allowed); for quality between 0 and 1, Hoeffding and Bentkus' (S. Bates et al.,
"Distribution-free, risk-controlling prediction sets", Journal of the ACM 68 (2021), section 3.1).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from include.errors import DataError

Floats = NDArray[np.float64]

#: Share of the examples that choose the thresholds; the rest test them.
LEARN = 0.15
#: The sequence begins where the p-value should be this much under `delta`: a start that just succeeds often does not.
_SPARE = 0.01
_LEVELS = 50
_FEW = 8


class SelectiveError(DataError):
    """Confidence and quality that no threshold can be found from."""


@dataclass(frozen=True)
class Selective:
    """What can be promised.

    Attributes:
        threshold: Answer where the confidence is at least this; None where nothing can be promised.
        coverage: Share that is answered then, on the examples that tested; 0 without a threshold.
        low, high: The largest coverage at which the promise is true lies between them: `low` is proven (with the
            sampling error of the coverage, at the same `delta`), above `high` the examples refute it.
        accuracy: On the answered ones among them; None without a threshold.
        n: Examples that tested; `answered` of them lie above the threshold.
        least: Examples that must be answered without an error before anything can be promised at all.
    """

    target: float
    delta: float
    threshold: float | None
    coverage: float
    low: float
    high: float
    accuracy: float | None
    n: int
    answered: int
    least: int

    @property
    def metric(self) -> str:
        """The name of its coverage as a metric."""
        return coverage_metric(self.target)

    def to_json(self) -> dict[str, Any]:
        """JSON-serialisable record."""
        return asdict(self)

    def measured(self) -> dict[str, float | int]:
        """The coverage as gates read it."""
        return {"value": self.coverage, "low": self.low, "high": self.high, "n": self.n}


def coverage_metric(target: float) -> str:
    """`coverage_at_99` for 0.99, `coverage_at_99_5` for 0.995."""
    return f"coverage_at_{100.0 * target:.6g}".replace(".", "_")


def find_threshold(confidence: ArrayLike, quality: ArrayLike, *, target: float, delta: float, seed: int) -> Selective:
    """The loosest threshold that fixed-sequence testing lets through.

    Args:
        confidence: What the model says of itself, one number per example, shape (n,).
        quality: 1 for a right answer and 0 for a wrong one, or anything between, shape (n,).
        target: Mean quality that must hold on what is answered.
        delta: Chance that it does not.
        seed: Of the draw that parts the examples.

    Raises:
        SelectiveError: No example, different lengths, a confidence that is not finite, a quality outside of
            [0, 1].
    """
    sure, right = _checked(confidence, quality)
    if not (0.0 < target < 1.0 and 0.0 < delta < 1.0):
        raise SelectiveError(f"target {target:g} and delta {delta:g} must lie between 0 and 1")
    if sure.size < _FEW:
        nothing = np.empty(0), np.empty(0, dtype=np.int64), np.empty(0)
        return _result(*nothing, None, sure.size, sure.size, target, delta)
    order = np.random.default_rng(seed).permutation(sure.size)
    learn, test = np.split(order, [max(2, round(LEARN * sure.size))])
    thresholds = _thresholds(sure[learn])
    counts, losses = _above(thresholds, sure[test], 1.0 - right[test])
    exact = _binary(right)
    p_values = risk_p_values(losses, counts, 1.0 - target, exact=exact)
    start = _start(thresholds, sure[learn], right[learn], test.size, target, delta)
    chosen = None
    for index in range(start, len(thresholds)):
        if p_values[index] > delta:
            break
        chosen = index
    # The other way round: where even the accuracy of the target is refuted, and of answering everything too.
    counted, lost = np.append(counts, test.size), np.append(losses, (1.0 - right[test]).sum())
    possible = counted[risk_p_values(counted - lost, counted, target, exact=exact) > delta]
    return _result(thresholds, counts, losses, chosen, int(possible.max(initial=0)), test.size, target, delta)


def risk_p_values(
    totals: Floats | NDArray[np.int64], counts: NDArray[np.int64], allowed: float, *, exact: bool
) -> Floats:
    """Of the hypotheses that the mean loss is above `allowed`; `totals` are sums of losses over `counts` examples.

    Args:
        exact: Every loss is 0 or 1; else they lie between and the bound of Hoeffding and Bentkus is used.
    """
    from scipy.special import bdtr, xlogy

    n = np.maximum(counts, 1)
    if exact:
        found = bdtr(np.round(totals), n, allowed)
    else:
        mean = np.minimum(totals / n, allowed)
        entropy = xlogy(mean, mean / allowed) + xlogy(1.0 - mean, (1.0 - mean) / (1.0 - allowed))
        bentkus = math.e * bdtr(np.minimum(np.ceil(totals - 1e-9), n), n, allowed)
        found = np.minimum(np.minimum(np.exp(-n * entropy), bentkus), 1.0)
    result: Floats = np.where(counts > 0, found, 1.0)
    return result


def _thresholds(confidence: Floats) -> Floats:
    """From the strictest to the loosest: quantiles of the confidence, and the least value seen."""
    levels = np.quantile(confidence, np.linspace(1.0 - 1.0 / _LEVELS, 0.0, _LEVELS), method="lower")
    return np.unique(levels)[::-1]


def _above(thresholds: Floats, confidence: Floats, loss: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Number of examples at or above each threshold, and the sum of their losses."""
    order = np.argsort(-confidence, kind="stable")
    counts = np.searchsorted(-confidence[order], -thresholds, side="right")
    sums = np.concatenate(([0.0], np.cumsum(loss[order])))
    return counts, sums[counts]


def _start(thresholds: Floats, confidence: Floats, right: Floats, size: int, target: float, delta: float) -> int:
    """The strictest threshold at which the test should succeed, judging by the examples that do not test."""
    counts, losses = _above(thresholds, confidence, 1.0 - right)
    scale = size / confidence.size
    rates = (losses + 0.5) / (counts + 1.0)
    sizes = np.round(scale * counts).astype(np.int64)
    expected = risk_p_values(sizes * rates, sizes, 1.0 - target, exact=True)
    ahead = np.flatnonzero(expected <= _SPARE * delta)
    return int(ahead[0]) if ahead.size else int(np.argmin(expected))


def _result(
    thresholds: Floats,
    counts: NDArray[np.int64],
    losses: Floats,
    chosen: int | None,
    possible: int,
    n: int,
    target: float,
    delta: float,
) -> Selective:
    from scipy.special import betaincinv

    answered = int(counts[chosen]) if chosen is not None else 0
    low = float(betaincinv(answered, n - answered + 1, delta)) if answered else 0.0
    most = max(answered, possible)
    high = float(betaincinv(most + 1, n - most, 1.0 - delta)) if most < n else 1.0
    return Selective(
        target=target,
        delta=delta,
        threshold=float(thresholds[chosen]) if chosen is not None else None,
        coverage=answered / n,
        low=low,
        high=high,
        accuracy=1.0 - float(losses[chosen]) / answered if chosen is not None else None,
        n=n,
        answered=answered,
        least=math.ceil(math.log(delta) / math.log(target)),
    )


def _binary(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _checked(confidence: ArrayLike, quality: ArrayLike) -> tuple[Floats, Floats]:
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    if sure.ndim != 1 or sure.shape != right.shape or sure.size == 0:
        raise SelectiveError(
            f"a threshold needs confidence and quality of the same examples: {sure.size} and {right.size}"
        )
    if not np.isfinite(sure).all() or not ((right >= 0.0) & (right <= 1.0)).all():
        raise SelectiveError("confidence must be finite, and quality between 0 and 1", hint="is the metric a share?")
    return sure, right
