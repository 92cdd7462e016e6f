"""Estimates from sums: the same as from all the data, honest about units, sharper with CUPED."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_effectsize

from include.release.experiments.correction import Correction, adjusted
from include.release.experiments.estimate import (
    Sums,
    cohens_d,
    cohens_h,
    difference,
    estimates,
    relative,
    variance_saved,
)

RNG = np.random.default_rng(5)


def test_one_value_per_unit_is_the_plain_mean() -> None:
    values = RNG.normal(3, 2, 500)
    found = estimates({"a": Sums.of(values)}, share=False)["a"]
    assert found.value == pytest.approx(values.mean())
    assert found.sd == pytest.approx(values.std(ddof=1))
    assert found.error == pytest.approx(values.std(ddof=1) / 500**0.5)


def test_the_error_of_a_ratio_is_that_of_resampled_units() -> None:
    skill, counts = RNG.beta(2, 2, 3000), RNG.integers(1, 30, 3000)
    hits = RNG.binomial(counts, skill)
    found = estimates({"a": Sums.of(hits, counts)}, share=True)["a"]
    drawn = RNG.integers(0, 3000, (2000, 3000))
    resampled = (hits[drawn].sum(axis=1) / counts[drawn].sum(axis=1)).std()
    assert found.value == pytest.approx(hits.sum() / counts.sum())
    assert found.error == pytest.approx(resampled, rel=0.08)
    independent = (found.value * (1 - found.value) / counts.sum()) ** 0.5
    assert found.error > 1.5 * independent, "answers of one unit resemble each other"


def test_the_error_of_a_ratio_follows_units_that_ask_more_and_are_better() -> None:
    counts = RNG.integers(1, 10, 2000)
    hits = RNG.binomial(counts, counts / 10)
    residuals = (hits - hits.sum() / counts.sum() * counts) / counts.mean()
    found = estimates({"a": Sums.of(hits, counts)}, share=False)["a"]
    assert found.sd == pytest.approx(residuals.std(ddof=1))


def test_a_share_without_a_miss_is_not_taken_for_certain() -> None:
    sums = {"a": Sums.of(np.zeros(2000)), "b": Sums.of(np.zeros(2000))}
    sure = difference(*(estimates(sums, share=False)[name] for name in "ba"))
    honest = difference(*(estimates(sums, share=True)[name] for name in "ba"))
    assert sure.error == 0.0
    assert 1e-4 < honest.error < 1e-2


def test_variants_without_two_units_have_no_estimate() -> None:
    groups = {"a": Sums.of(np.ones(1)), "b": Sums(n=0), "c": Sums(n=5), "d": Sums.of(np.ones(2))}
    assert set(estimates(groups, share=True)) == {"d"}


class TestCuped:
    def sample(self, n: int = 4000, effect: float = 0.0, seed: int = 1) -> dict[str, Sums]:
        rng = np.random.default_rng(seed)
        groups = {}
        for name, shift in (("a", 0.0), ("b", effect)):
            before = rng.normal(0, 1, n)
            groups[name] = Sums.of(0.8 * before + rng.normal(0, 0.6, n) + shift, x=before)
        return groups

    def test_it_takes_away_the_variance_that_the_covariate_explains(self) -> None:
        groups = self.sample()
        plain, sharp = (estimates(groups, share=False, cuped=cuped) for cuped in (False, True))
        assert variance_saved(sharp, plain) == pytest.approx(0.64, abs=0.03)
        assert sharp["a"].raw == plain["a"].value

    def test_it_does_not_move_the_effect_on_average(self) -> None:
        found = []
        for seed in range(300):
            both = estimates(self.sample(300, 0.1, seed), share=False, cuped=True)
            found.append(difference(both["b"], both["a"]).value)
        assert np.mean(found) == pytest.approx(0.1, abs=4 * np.std(found) / 300**0.5)
        assert np.std(found) == pytest.approx(0.6 * (2 / 300) ** 0.5, rel=0.15)

    def test_it_agrees_with_the_regression_on_assignment_and_covariate(self) -> None:
        import statsmodels.api as sm

        rng = np.random.default_rng(3)
        before, assigned = rng.normal(0, 1, 2000), np.repeat([0.0, 1.0], 1000)
        values = before + 0.3 * assigned + rng.normal(0, 1, 2000)
        fit = sm.OLS(values, np.column_stack([np.ones(2000), assigned, before])).fit()
        sums = {
            name: Sums.of(values[part], x=before[part]) for name, part in (("a", slice(1000)), ("b", slice(1000, None)))
        }
        both = estimates(sums, share=False, cuped=True)
        gap = difference(both["b"], both["a"])
        assert gap.value == pytest.approx(fit.params[1], abs=1e-9)
        assert gap.error == pytest.approx(fit.bse[1], rel=0.01)

    def test_it_works_on_a_ratio(self) -> None:
        rng = np.random.default_rng(8)
        skill, counts = rng.beta(1, 1, 5000), rng.integers(1, 9, 5000)
        sums = {"a": Sums.of(rng.binomial(counts, skill), counts, skill)}
        plain, sharp = (estimates(sums, share=True, cuped=cuped)["a"] for cuped in (False, True))
        assert sharp.value == pytest.approx(plain.value)
        assert sharp.error < 0.75 * plain.error

    def test_a_covariate_that_says_nothing_changes_nothing(self) -> None:
        values = RNG.normal(0, 1, 100)
        groups = {"a": Sums.of(values, x=np.full(100, 3.0))}
        assert estimates(groups, share=False, cuped=True) == estimates(groups, share=False)


class TestEffectSizes:
    @given(st.floats(0, 1), st.floats(0, 1))
    def test_h_agrees_with_statsmodels(self, one: float, other: float) -> None:
        assert cohens_h(one, other) == pytest.approx(proportion_effectsize(one, other), abs=1e-9)

    def test_d_is_in_standard_deviations(self) -> None:
        groups = {"a": Sums.of(RNG.normal(0, 2, 20_000)), "b": Sums.of(RNG.normal(1, 2, 20_000))}
        both = estimates(groups, share=False)
        assert cohens_d(both["b"], both["a"]) == pytest.approx(0.5, abs=0.03)
        same = estimates({"a": Sums.of(np.ones(5)), "b": Sums.of(np.ones(5))}, share=False)
        assert cohens_d(same["b"], same["a"]) is None

    def test_the_relative_lift_has_the_error_that_repeats_show(self) -> None:
        found, errors = [], []
        for _ in range(400):
            groups = {"a": Sums.of(RNG.normal(10, 3, 200)), "b": Sums.of(RNG.normal(12, 3, 200))}
            both = estimates(groups, share=False)
            lift = relative(both["b"], both["a"])
            assert lift is not None
            found.append(lift.value)
            errors.append(lift.error)
        assert np.mean(found) == pytest.approx(0.2, abs=0.01)
        assert np.mean(errors) == pytest.approx(np.std(found), rel=0.15)

    def test_a_lift_over_nothing_is_not_shown(self) -> None:
        both = estimates({"a": Sums.of(RNG.normal(0, 1, 50)), "b": Sums.of(RNG.normal(1, 1, 50))}, share=False)
        assert relative(both["b"], both["a"]) is None


p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(p_lists)
def test_benjamini_hochberg_agrees_with_scipy(p_values: list[float]) -> None:
    expected = false_discovery_control(p_values, method="bh")
    assert adjusted(p_values, Correction.BENJAMINI_HOCHBERG) == pytest.approx(list(expected))


@given(p_lists, st.floats(0.001, 0.5))
def test_holm_steps_down(p_values: list[float], alpha: float) -> None:
    claimed = {index for index, value in enumerate(adjusted(p_values, Correction.HOLM)) if value <= alpha}
    left = sorted(range(len(p_values)), key=lambda index: p_values[index])
    expected = set()
    while left and len(left) * p_values[left[0]] <= alpha:
        expected.add(left.pop(0))
    assert claimed == expected


def test_holms_adjusted_values_are_those_of_statsmodels() -> None:
    p_values = [0.04, 0.001, 0.03, 0.02, 0.6]
    assert adjusted(p_values, Correction.HOLM) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_nothing_asked_nothing_corrected() -> None:
    assert adjusted([], Correction.HOLM) == adjusted([], Correction.BENJAMINI_HOCHBERG) == []
