"""How far two samples are apart, and how far apart they would be by chance alone.

The distance is Wasserstein's (earth mover's), in standard deviations of the reference: an effect size, which says how
much has moved. A p-value says how sure one is that anything moved at all, and on a day's traffic one is always sure.
But with few live requests even two samples of the same thing lie apart; so chance is measured, by drawing samples of
that size from the reference itself, and a column has drifted only when it moved more than the threshold and more than
chance explains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: A shift by this many standard deviations matters: Cohen's convention for a small effect (J. Cohen, "Statistical Power
#: Analysis for the Behavioral Sciences", 1988).
THRESHOLD = 0.2
_DRAWS = 200
_CHANCE = 0.99
_LEAST_SPREAD = 1e-3  # as Evidently: a reference without spread must not divide by zero


def wasserstein(reference: Floats, live: Floats) -> float:
    """Wasserstein distance of two samples, in standard deviations of the reference; shapes (n,) and (m,).

    The area between the two empirical distribution functions (C. Villani, "Optimal Transport", 2009, remark 2.19).
    """
    values = np.sort(np.concatenate([reference, live]))
    widths = np.diff(values)
    below = [np.searchsorted(np.sort(sample), values[:-1], side="right") / sample.size for sample in (reference, live)]
    return float((np.abs(below[0] - below[1]) * widths).sum() / max(float(reference.std()), _LEAST_SPREAD))


def chance(reference: Floats, size: int, rng: np.random.Generator) -> float:
    """The distance that `size` rows of the reference's own kind stay under in 99 of 100 draws."""
    drawn = [wasserstein(rng.choice(reference, reference.size), rng.choice(reference, size)) for _ in range(_DRAWS)]
    return float(np.quantile(drawn, _CHANCE))
