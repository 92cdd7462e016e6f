"""What may be looked at at any time: bounds that hold at all looks together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from include.release.experiments.sequential import (
    StatisticsError,
    best_precision,
    boundary,
    p_value,
    ratio_always_valid,
    ratio_p_value,
    tightest,
)

alphas = st.floats(1e-6, 0.5)
sizes = st.floats(1, 1e7)
counts = st.lists(st.integers(0, 5000), min_size=2, max_size=5)


class TestMeans:
    def test_the_boundary_is_the_published_one(self) -> None:
        n, rho, alpha = 500.0, 0.1, 0.05  # equation 4 of Waudby-Smith et al., for a standard deviation of 1
        published = math.sqrt(
            2 * (n * rho**2 + 1) / (n**2 * rho**2) * math.log(math.sqrt(n * rho**2 + 1) / alpha)
        ) * math.sqrt(n)
        assert boundary(n, alpha, 1 / rho**2) == pytest.approx(published)

    @given(st.floats(2, 1e6), st.floats(0.001, 0.2))
    def test_the_best_precision_makes_the_boundary_tightest_at_n(self, n: float, alpha: float) -> None:
        best = optimize.minimize_scalar(
            lambda log: boundary(n, alpha, math.exp(log)), bounds=(math.log(n) - 7, math.log(n) + 2), method="bounded"
        )
        assert boundary(n, alpha, best_precision(n, alpha)) == pytest.approx(best.fun, rel=2e-3)
        assert tightest(alpha) == pytest.approx(boundary(n, alpha, best_precision(n, alpha)))

    def test_looking_at_any_time_costs_half_as_much_width_again(self) -> None:
        assert tightest(0.05) / stats.norm.ppf(0.975) == pytest.approx(1.55, abs=0.01)

    @given(sizes, alphas, st.floats(0.1, 1e5))
    def test_the_p_value_is_alpha_where_the_boundary_is_reached(self, n: float, alpha: float, precision: float) -> None:
        reach = boundary(n, alpha, precision)
        assert p_value(reach, n, precision) == pytest.approx(alpha, rel=1e-6)
        assert p_value(-1.001 * reach, n, precision) < alpha < p_value(0.999 * reach, n, precision)

    @given(sizes, st.floats(0, 6), st.floats(0, 6))
    def test_more_evidence_never_makes_the_p_value_larger(self, n: float, one: float, other: float) -> None:
        small, large = sorted((one, other))
        assert p_value(large, n, 100.0) <= p_value(-small, n, 100.0) <= 1.0

    def test_nothing_seen_proves_nothing(self) -> None:
        assert p_value(9.0, 0, 100.0) == 1.0

    def test_it_is_seldom_crossed_however_often_one_looks_and_the_ordinary_test_often(self) -> None:
        rng = np.random.default_rng(7)
        looks = np.arange(20, 2001)
        z = rng.standard_normal((1000, 2000)).cumsum(axis=1)[:, looks - 1] / np.sqrt(looks)
        bounds = np.array([boundary(n, 0.05, 50.0) for n in looks])
        crossed = (np.abs(z) >= bounds).any(axis=1).mean()
        assert crossed <= 0.05
        assert crossed >= 0.005, "a boundary that is never crossed would be useless"
        assert (np.abs(z) >= 1.96).any(axis=1).mean() > 0.3


class TestShares:
    @given(counts, st.randoms(use_true_random=False))
    def test_pearsons_test_agrees_with_scipy(self, seen: list[int], random: object) -> None:
        weights = [random.uniform(0.1, 5) for _ in seen]  # type: ignore[attr-defined]
        total = sum(seen)
        if total:
            expected = stats.chisquare(seen, [total * weight / sum(weights) for weight in weights]).pvalue
            assert ratio_p_value(seen, weights) == pytest.approx(expected, abs=1e-12)

    @given(counts)
    def test_the_sequential_check_is_the_bayes_factor_of_lindon_and_malek(self, seen: list[int]) -> None:
        shares = np.full(len(seen), 1 / len(seen))
        total = sum(seen)
        factor = stats.dirichlet_multinomial(1000 * shares, total).logpmf(seen) - stats.multinomial(
            total, shares
        ).logpmf(seen)
        assert ratio_always_valid(seen, [1.0] * len(seen)) == pytest.approx(min(1.0, math.exp(-factor)), rel=1e-6)

    def test_a_published_mismatch_is_seen(self) -> None:
        # A. Fabijan et al., "Diagnosing sample ratio mismatch", KDD 2019, section 1: 821,588 and 815,482 for 50/50.
        assert ratio_p_value([821_588, 815_482], [1, 1]) == pytest.approx(1.8e-6, rel=0.05)
        assert ratio_always_valid([821_588, 815_482], [1, 1]) < 0.001
        assert ratio_always_valid([8215, 8154], [1, 1]) == 1.0

    @given(counts, st.floats(0.1, 100))
    def test_only_the_proportion_of_the_weights_matters(self, seen: list[int], scale: float) -> None:
        weights = [float(number + 1) for number in range(len(seen))]
        scaled = [weight * scale for weight in weights]
        assert ratio_always_valid(seen, scaled) == pytest.approx(ratio_always_valid(seen, weights), rel=1e-6)

    def test_it_is_seldom_wrong_however_often_one_looks(self) -> None:
        rng = np.random.default_rng(11)
        wrong = 0
        for _ in range(200):
            ones = (rng.random(3000) < 0.3).cumsum()
            looks = range(100, 3001, 100)
            wrong += any(ratio_always_valid([look - ones[look - 1], ones[look - 1]], [7, 3]) <= 0.05 for look in looks)
        assert wrong / 200 <= 0.05

    @pytest.mark.parametrize(
        ("seen", "weights"), [([5], [1.0]), ([5, 5], [1.0]), ([5, 5], [1.0, 0.0]), ([-1, 5], [1.0, 1.0])]
    )
    def test_what_cannot_be_compared_is_told(self, seen: list[int], weights: list[float]) -> None:
        with pytest.raises(StatisticsError):
            ratio_p_value(seen, weights)
        with pytest.raises(StatisticsError):
            ratio_always_valid(seen, weights)

    def test_no_unit_yet_is_no_mismatch(self) -> None:
        assert ratio_p_value([0, 0], [1, 1]) == ratio_always_valid([0, 0], [1, 1]) == 1.0
