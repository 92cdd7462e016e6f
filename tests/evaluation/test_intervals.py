"""Intervals hold what they promise, and agree with those who computed them before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats

from include.evaluation.intervals import (
    IntervalError,
    exact,
    mean_interval,
    paired_interval,
    paired_quantile_interval,
    quantile_interval,
)

SETTINGS = {"confidence": 0.95, "resamples": 2000, "seed": 1}
SKEWED = np.random.default_rng(0).random(300) ** 4

samples = npst.arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e3, 1e3, width=32))


class TestMean:
    @pytest.mark.parametrize(("method", "peer"), [("bca", "BCa"), ("percentile", "percentile")])
    def test_agrees_with_scipy(self, method: str, peer: str) -> None:
        ours = mean_interval(SKEWED, method=method, **{**SETTINGS, "resamples": 20_000})
        theirs = stats.bootstrap((SKEWED,), np.mean, n_resamples=20_000, method=peer, rng=2).confidence_interval
        width = theirs.high - theirs.low
        assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
        assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)

    def test_bca_moves_the_interval_towards_the_long_tail(self) -> None:
        bca, plain = (mean_interval(SKEWED, method=method, **SETTINGS) for method in ("bca", "percentile"))
        assert bca.low > plain.low
        assert bca.high > plain.high

    def test_few_levels_give_the_same_distribution_as_many(self) -> None:
        hits = np.array([1.0] * 170 + [0.0] * 30)
        nearly = hits + np.linspace(0.0, 1e-9, hits.size)  # 200 different values: the other way of drawing
        fast, slow = mean_interval(hits, **SETTINGS), mean_interval(nearly, **SETTINGS)
        assert fast.low == pytest.approx(slow.low, abs=0.006)
        assert fast.high == pytest.approx(slow.high, abs=0.006)

    @pytest.mark.parametrize(("n", "p"), [(50, 0.5), (200, 0.9), (100, 0.97)])
    def test_covers_the_truth_as_often_as_it_says(self, n: int, p: float) -> None:
        rng = np.random.default_rng(7)
        draws = (rng.random((300, n)) < p).astype(float)
        found = [mean_interval(draw, bounds=(0, 1), **{**SETTINGS, "resamples": 600}) for draw in draws]
        assert np.mean([interval.low <= p <= interval.high for interval in found]) >= 0.91

    def test_the_same_seed_gives_the_same_interval(self) -> None:
        assert mean_interval(SKEWED, **SETTINGS) == mean_interval(SKEWED, **SETTINGS)

    @pytest.mark.parametrize("n", [1, 5, 100])
    def test_a_sample_without_a_miss_does_not_prove_perfection(self, n: int) -> None:
        interval = mean_interval(np.ones(n), bounds=(0, 1), **SETTINGS)
        exact_interval = stats.binomtest(n, n).proportion_ci(method="exact")
        assert interval.low == pytest.approx(exact_interval.low)
        assert (interval.value, interval.high) == (1.0, 1.0)

    def test_one_miss_in_a_hundred_is_as_uncertain_as_clopper_and_pearson_say(self) -> None:
        interval = mean_interval(np.array([1.0] + [0.0] * 99), bounds=(0, 1), **SETTINGS)
        assert interval.high == pytest.approx(stats.binomtest(1, 100).proportion_ci().high, abs=0.01)

    @given(samples)
    def test_the_estimate_lies_inside(self, values: np.ndarray) -> None:
        interval = mean_interval(values, confidence=0.9, resamples=100, seed=3)
        assert interval.low <= interval.value <= interval.high
        assert interval.n == values.size

    @pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, float("nan")], [1.0, float("inf")]])
    def test_what_is_no_sample_is_refused(self, values: list) -> None:
        with pytest.raises(IntervalError):
            mean_interval(values, **SETTINGS)


class TestPaired:
    def test_what_both_share_cancels(self) -> None:
        rng = np.random.default_rng(3)
        difficulty = rng.random(400)
        candidate, reference = difficulty + 0.02, difficulty + rng.normal(0, 0.01, 400)
        paired = paired_interval(candidate, reference, **SETTINGS)
        alone = mean_interval(candidate, **SETTINGS)
        assert 0.0 < paired.low < 0.02 < paired.high
        assert paired.high - paired.low < (alone.high - alone.low) / 10

    def test_the_same_model_is_not_proven_the_same_by_a_few_examples(self) -> None:
        hits = np.ones(20)
        interval = paired_interval(hits, hits, bounds=(0, 1), **SETTINGS)
        assert interval.value == 0.0
        assert interval.low == -interval.high
        assert 0.1 < interval.high < 0.25

    def test_swapping_sides_swaps_the_sign(self) -> None:
        rng = np.random.default_rng(4)
        left, right = rng.random(200), rng.random(200)
        there, back = paired_interval(left, right, **SETTINGS), paired_interval(right, left, **SETTINGS)
        assert there.value == pytest.approx(-back.value)
        assert there.low == pytest.approx(-back.high, abs=0.01)

    def test_different_examples_are_refused(self) -> None:
        with pytest.raises(IntervalError, match="same examples"):
            paired_interval(np.ones(3), np.ones(4), **SETTINGS)


class TestQuantile:
    @pytest.mark.parametrize("quantile", [0.5, 0.95])
    def test_covers_the_truth_as_often_as_it_says(self, quantile: float) -> None:
        rng = np.random.default_rng(5)
        truth = -np.log(1 - quantile)
        found = [quantile_interval(draw, quantile, confidence=0.95) for draw in rng.exponential(size=(1000, 120))]
        assert np.mean([interval.low <= truth <= interval.high for interval in found]) >= 0.94

    def test_agrees_with_scipy(self) -> None:
        values = np.random.default_rng(6).exponential(size=200)
        ours = quantile_interval(values, 0.95, confidence=0.95)
        theirs = stats.quantile_test(values, q=0, p=0.95).confidence_interval(confidence_level=0.95)
        assert (ours.low, ours.high) == (theirs.low, theirs.high)

    def test_pairs_keep_together_what_was_measured_together(self) -> None:
        rng = np.random.default_rng(8)
        weather = rng.exponential(10.0, size=150)
        interval = paired_quantile_interval(weather + 3.0, weather, 0.95, **SETTINGS)
        assert interval.low == pytest.approx(3.0)
        assert interval.high == pytest.approx(3.0)


def test_a_size_is_exact() -> None:
    assert exact(88.5).to_json() == {"value": 88.5, "low": 88.5, "high": 88.5, "n": 1, "sd": 0.0}
