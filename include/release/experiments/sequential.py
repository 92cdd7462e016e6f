"""Statistics that may be looked at as often as one likes. Pure.

An ordinary test at 5% that is looked at every day, and stopped when it says yes, says yes far too often. Everything
here holds at all looks together: the chance that it is ever wrong is bounded, whenever one stops.

*Means* use Robbins' normal mixture. A standardised mean of n observations crosses `boundary` at any n with a chance of
alpha; for means of any distribution that is an asymptotic statement, as the central limit theorem is (H. Robbins,
Annals of Mathematical Statistics 41 (1970), 1397-1409; I. Waudby-Smith et al., "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics 52 (2024), equations 4 and 8). `p_value` is the same statement
the other way round: one over the mixture's likelihood ratio (R. Johari et al., "Always valid inference", Operations
Research 70 (2022)).

*Counts* per variant are held against the planned shares by the Dirichlet-multinomial mixture (M. Lindon and A. Malek,
"Anytime-valid inference for multinomial count data", NeurIPS 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from include.errors import UserError

#: Where the prior of the share check sits: shares stray from the planned ones by about sqrt(share / CONCENTRATION).
CONCENTRATION = 1000.0


class StatisticsError(UserError):
    """Counts, shares or sizes that no statistic can be computed from."""


def boundary(n: float, alpha: float, precision: float) -> float:
    """Standard errors that a mean of n observations strays from the truth at any time with a chance of `alpha`.

    The two-sided normal mixture boundary with mixing precision `precision`, in observations (equation 14 of S. Howard
    et al., "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49 (2021)).
    """
    return math.sqrt((1.0 + precision / n) * math.log((n + precision) / (precision * alpha**2)))


def best_precision(n: float, alpha: float) -> float:
    """The mixing precision whose boundary is tightest at `n` observations (Waudby-Smith et al., appendix B.2)."""
    return n / _information(alpha)


def tightest(alpha: float) -> float:
    """The boundary at the n that its precision was made for; it does not depend on that n (3.03 at 5%)."""
    return boundary(_information(alpha), alpha, 1.0)


def p_value(z: float, n: float, precision: float) -> float:
    """Always-valid p-value of a mean that lies `z` standard errors off after n observations.

    It is at most alpha exactly where |z| reaches `boundary(n, alpha, precision)`.
    """
    if n <= 0:
        return 1.0
    evidence = 0.5 * z * z * n / (n + precision) - 0.5 * math.log1p(n / precision)
    return min(1.0, math.exp(-evidence))


def ratio_p_value(counts: Sequence[int], weights: Sequence[float]) -> float:
    """Pearson's chi-square test that `counts` come in the proportion of `weights`; for one look only.

    Raises:
        StatisticsError: Fewer than two variants, a weight that is not positive, or a negative count.
    """
    from scipy.special import chdtrc

    shares, total = _shares(counts, weights), sum(counts)
    if total == 0:
        return 1.0
    found = sum((count - total * share) ** 2 / (total * share) for count, share in zip(counts, shares, strict=True))
    return float(chdtrc(len(counts) - 1, found))


def ratio_always_valid(counts: Sequence[int], weights: Sequence[float], concentration: float = CONCENTRATION) -> float:
    """As `ratio_p_value`, but it may be looked at after every single unit.

    One over the Bayes factor of a Dirichlet prior around the planned shares against those shares: by Ville's inequality
    it falls to alpha or below at any time with a chance of at most alpha where the shares are as planned.
    """
    shares, total = _shares(counts, weights), sum(counts)
    evidence = math.lgamma(concentration) - math.lgamma(concentration + total)
    for count, share in zip(counts, shares, strict=True):
        prior = concentration * share
        evidence += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return min(1.0, math.exp(-evidence)) if evidence > 0 else 1.0


def _information(alpha: float) -> float:
    return -2.0 * math.log(alpha) + math.log(1.0 - 2.0 * math.log(alpha))


def _shares(counts: Sequence[int], weights: Sequence[float]) -> list[float]:
    if len(counts) != len(weights) or len(counts) < 2:
        raise StatisticsError(f"{len(counts)} counts and {len(weights)} weights: two or more of each are needed")
    if not all(math.isfinite(weight) and weight > 0 for weight in weights) or any(count < 0 for count in counts):
        raise StatisticsError("weights must be positive, and counts 0 or more")
    total = math.fsum(weights)
    return [weight / total for weight in weights]
