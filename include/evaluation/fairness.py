"""Do groups fare alike? The gap between the best and the worst group, with an interval that holds for all. Pure.

Whoever looks at ten groups and takes the worst one has looked ten times: an interval of that group alone would be too
narrow. So every group's mean gets an interval at the level `confidence ** (1 / groups)` (Sidak 1967: the groups are
separate samples), and with that confidence all of them hold at once. Then the greatest of the means lies between the
greatest lower and the greatest upper end, the least in the same way, and their distance between what follows from that.

Means of 0 and 1 get Clopper and Pearson's exact interval, others the bootstrap's. A group with fewer than `smallest`
examples is not compared: its mean says little, and it would only widen the intervals of the others.

Source: Z. Sidak, "Rectangular confidence regions for the means of multivariate normal distributions", JASA 62 (1967),
626-633.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from include.evaluation.intervals import Floats, Interval, mean_interval

#: Resamples beyond an end of an interval, at least: its level lies far out where there are many groups.
_BEYOND = 20


@dataclass(frozen=True)
class Gap:
    """How far groups are apart on one metric.

    Attributes:
        gap: Best mean minus worst mean.
        worst: Mean of the worst group.
        best_group, worst_group: Whose means these are.
        groups: Group -> its own interval, which holds for all groups at once.
        left_out: Groups that are too small to be compared -> number of examples.
    """

    gap: Interval
    worst: Interval
    best_group: str
    worst_group: str
    groups: dict[str, Interval]
    left_out: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """JSON-serialisable record."""
        return {
            "gap": self.gap.to_json(),
            "worst": self.worst.to_json(),
            "best_group": self.best_group,
            "worst_group": self.worst_group,
            "groups": {name: found.to_json() for name, found in self.groups.items()},
            "left_out": self.left_out,
        }


def find_gap(
    values: Floats,
    labels: Sequence[str],
    *,
    smallest: int,
    lower_is_better: bool,
    confidence: float,
    resamples: int,
    seed: int,
    bounds: tuple[float, float] | None,
) -> Gap | None:
    """The gap on one metric; None where fewer than two groups are large enough to be compared.

    Args:
        values: The metric per example, shape (n,).
        labels: Group of each example, length n.
        bounds: As in `mean_interval`.
    """
    names, index, counts = np.unique(np.asarray(labels, dtype=str), return_inverse=True, return_counts=True)
    compared = [group for group in range(len(names)) if counts[group] >= smallest]
    if len(compared) < 2:
        return None
    level = confidence ** (1.0 / len(compared))
    drawn = max(resamples, math.ceil(2 * _BEYOND / (1.0 - level)))
    groups = {str(names[group]): _interval(values[index == group], level, drawn, seed, bounds) for group in compared}
    sign = -1.0 if lower_is_better else 1.0
    ordered = sorted(groups, key=lambda name: (sign * groups[name].value, name))
    worst, best = groups[ordered[0]], groups[ordered[-1]]
    n = int(sum(counts[group] for group in compared))
    highest = (max(found.low for found in groups.values()), max(found.high for found in groups.values()))
    lowest = (min(found.low for found in groups.values()), min(found.high for found in groups.values()))
    gap = Interval(abs(best.value - worst.value), max(0.0, highest[0] - lowest[1]), highest[1] - lowest[0], n, 0.0)
    ends = highest if lower_is_better else lowest
    return Gap(
        gap,
        Interval(worst.value, ends[0], ends[1], n, 0.0),
        ordered[-1],
        ordered[0],
        groups,
        {str(names[group]): int(counts[group]) for group in range(len(names)) if group not in compared},
    )


def _interval(values: Floats, level: float, resamples: int, seed: int, bounds: tuple[float, float] | None) -> Interval:
    if bounds != (0.0, 1.0) or not np.isin(values, bounds).all():
        return mean_interval(values, confidence=level, resamples=resamples, seed=seed, bounds=bounds)
    from scipy.special import betaincinv

    n, ones, tail = values.size, int(values.sum()), (1.0 - level) / 2.0
    low = float(betaincinv(ones, n - ones + 1, tail)) if ones else 0.0
    high = float(betaincinv(ones + 1, n - ones, 1.0 - tail)) if ones < n else 1.0
    return Interval(ones / n, low, high, n, float(values.std(ddof=1)) if n > 1 else 0.0)
