"""Bounds that hold at all looks together, for what live traffic shows of a rate, or of the difference of two. Pure.

A stage is asked about every second, and an ordinary 95% interval that is looked at often enough ends up excluding the
truth. So the usual 1.96 is replaced by the boundary of Robbins' normal mixture, which a standardised mean crosses at
any n with a chance of 5%: about 3.0 at n = 40 and 3.4 at n = 1,000 (H. Robbins, Annals of Mathematical Statistics 41
(1970), 1397-1409; for means of any distribution I. Waudby-Smith et al., "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics 52 (2024)).

Intervals: E. Wilson, JASA 22 (1927), for a rate; R. Newcombe, Statistics in Medicine 17 (1998), 873-890, method 10, for
the difference of two rates; A. Agresti and Y. Min, Statistics in Medicine 24 (2005), 729-740, for paired answers of a
shadow stage. For a metric between 0 and 1 that is not 0/1 they are too wide, not too narrow.
"""

from __future__ import annotations

import math

from include.release.evidence import Quality
from include.release.experiments.sequential import boundary as mixture

#: Chance that a stage's interval ever excludes the truth, however often it is looked at.
ALPHA = 0.05
#: Where the boundary is tightest: about 8 times this many observations.
_RHO = 5.0


def boundary(n: float) -> float:
    """Standard errors that a mean of n observations strays from the truth at any time with a chance of `ALPHA`.

    Robbins' normal mixture with mixing precision `_RHO`; see `include.release.experiments.sequential`.
    """
    return mixture(n, ALPHA, _RHO)


def wilson(mean: float, n: int, z: float) -> tuple[float, float]:
    """Wilson's score interval for a rate; (0, 1) without observations."""
    if n == 0:
        return 0.0, 1.0
    mean = min(max(mean, 0.0), 1.0)
    centre = mean + z * z / (2 * n)
    reach = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def newcombe(candidate: Quality, champion: Quality, z: float) -> tuple[float, float]:
    """Newcombe's hybrid score interval (method 10) for candidate minus champion."""
    low, high = wilson(candidate.mean, candidate.n, z)
    low_reference, high_reference = wilson(champion.mean, champion.n, z)
    difference = candidate.mean - champion.mean
    down = math.hypot(candidate.mean - low, high_reference - champion.mean)
    up = math.hypot(high - candidate.mean, champion.mean - low_reference)
    return max(-1.0, difference - down), min(1.0, difference + up)


def paired_interval(difference: Quality, z: float) -> tuple[float, float]:
    """Agresti and Min's adjusted interval for a mean paired difference: half an answer is added to each of four
    cells."""
    n = difference.n + 2
    mean = difference.mean * difference.n / n
    spread = difference.sd or 0.0
    squares = max(difference.n - 1, 0) * spread**2 + difference.n * difference.mean**2 + 1.0
    reach = z * math.sqrt(max(squares / n - mean**2, 0.0) / n)
    return max(-1.0, mean - reach), min(1.0, mean + reach)
