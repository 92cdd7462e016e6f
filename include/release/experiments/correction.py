"""Many questions at once: p-values that stay honest over several metrics and variants. Pure.

Both methods take always-valid p-values as well as ordinary ones: at whatever moment the experiment is stopped, those
are p-values. Holm bounds the chance of one false claim at all (S. Holm, Scandinavian Journal of Statistics 6 (1979),
65-70); Benjamini and Hochberg the expected share of false ones among the claims (JRSS B 57 (1995), 289-300).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Correction(str, Enum):
    """How p-values are corrected."""

    HOLM = "holm"
    BENJAMINI_HOCHBERG = "benjamini_hochberg"


def adjusted(p_values: Sequence[float], correction: Correction) -> list[float]:
    """The adjusted p-values in the same order: a claim is made where one is at most alpha."""
    count = len(p_values)
    order = sorted(range(count), key=lambda index: p_values[index])
    result = [1.0] * count
    if correction is Correction.HOLM:
        largest = 0.0
        for rank, index in enumerate(order):
            largest = max(largest, (count - rank) * p_values[index])
            result[index] = min(1.0, largest)
        return result
    smallest = 1.0
    for rank in range(count, 0, -1):
        index = order[rank - 1]
        smallest = min(smallest, p_values[index] * count / rank)
        result[index] = smallest
    return result
