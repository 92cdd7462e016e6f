"""How many units: against published figures and other people's code."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.power import zt_ind_solve_power
from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

from include.release.experiments.planning import detectable, plan, price_of_looking, two_means, two_proportions
from include.release.experiments.sequential import StatisticsError

RATES = st.floats(0.05, 0.95)


def test_two_rates_need_what_the_manual_of_r_says() -> None:
    assert two_proportions(0.50, 0.75, alpha=0.05, power=0.90) == pytest.approx(76.7, abs=0.05)  # ?power.prop.test


@given(RATES, RATES)
def test_two_rates_agree_with_statsmodels(first: float, second: float) -> None:
    if abs(first - second) > 0.01:
        theirs = samplesize_proportions_2indep_onetail(
            first - second, second, 0.8, ratio=1, alpha=0.025, value=0, alternative="larger"
        )
        assert two_proportions(second, first, alpha=0.05, power=0.8) == pytest.approx(theirs, rel=1e-3)


@given(RATES, RATES, st.floats(0.2, 5.0))
def test_groups_of_different_size_can_be_named_in_either_order(first: float, second: float, ratio: float) -> None:
    if abs(first - second) > 0.01:
        one = two_proportions(first, second, alpha=0.05, power=0.8, ratio=ratio)
        other = two_proportions(second, first, alpha=0.05, power=0.8, ratio=1 / ratio)
        assert other == pytest.approx(ratio * one)


@given(st.floats(0.01, 1.0), st.floats(0.2, 5.0), st.floats(0.5, 0.99))
def test_two_means_agree_with_statsmodels(effect: float, ratio: float, power: float) -> None:
    theirs = zt_ind_solve_power(effect_size=effect, nobs1=None, alpha=0.05, power=power, ratio=ratio)
    ours = two_means(2.0, 2.0 * effect, alpha=0.05, power=power, ratio=ratio)
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert detectable(ours, 2.0, alpha=0.05, power=power, ratio=ratio) == pytest.approx(2.0 * effect)


def test_looking_at_any_time_needs_about_twice_as_many() -> None:
    assert price_of_looking(0.05, 0.8) == pytest.approx(1.92, abs=0.02)


class TestPlan:
    def test_equal_variants_get_what_the_formula_says(self) -> None:
        found = plan([1, 1], baseline=0.2, mde=0.02, units_per_day=1000, label_delay_days=2)
        n = max(two_proportions(0.2, rate, alpha=0.05, power=0.8) for rate in (0.18, 0.22))
        assert found.once == (math.ceil(n), math.ceil(n))
        assert found.always[0] == math.ceil(n * price_of_looking(0.05, 0.8))
        assert found.days == pytest.approx(2 + sum(found.always) / 1000, abs=0.01)
        assert found.detectable == pytest.approx(0.02, rel=0.05)

    def test_no_variant_gets_fewer_than_the_minimum(self) -> None:
        found = plan([1, 1], baseline=0.5, mde=0.4)
        assert found.once == found.always == (1000, 1000)
        assert plan([9, 1], baseline=0.5, mde=0.4).once == (9000, 1000)

    def test_more_challengers_share_alpha_and_need_more(self) -> None:
        two, four = (plan([1] * count, baseline=0.2, mde=0.02) for count in (2, 4))
        assert four.alpha_each == pytest.approx(0.05 / 3)
        assert four.once[0] > 1.2 * two.once[0]

    @given(st.floats(0.02, 0.98), st.floats(0.005, 0.2), st.floats(0.2, 5.0))
    def test_the_smallest_challenger_decides_and_shares_are_kept(self, rate: float, mde: float, weight: float) -> None:
        found = plan([1.0, weight, 2 * weight], baseline=rate, mde=mde)
        assert found.always[1] == pytest.approx(weight * found.always[0], abs=weight + 1)
        assert min(found.once) >= 1000
        assert all(always >= once for always, once in zip(found.always, found.once, strict=True))

    def test_a_mean_has_a_spread(self) -> None:
        found = plan([1, 1], baseline=40.0, mde=1.0, sd=12.0)
        assert found.once[0] == math.ceil(two_means(12.0, 1.0, alpha=0.05, power=0.8))

    @pytest.mark.parametrize(
        "changes",
        [
            {"weights": [1]},
            {"weights": [1, 0]},
            {"mde": 0.0},
            {"baseline": 1.2},
            {"mde": 2.0},
            {"alpha": 1.0},
            {"units_per_day": 0.0},
            {"baseline": 3.0, "sd": 0.0},
        ],
    )
    def test_what_cannot_be_planned_is_told(self, changes: dict[str, Any]) -> None:
        values = {"weights": [1, 1], "baseline": 0.2, "mde": 0.02, **changes}
        with pytest.raises(StatisticsError):
            plan(values.pop("weights"), **values)

    def test_equal_rates_cannot_be_told_apart(self) -> None:
        with pytest.raises(StatisticsError, match="differ"):
            two_proportions(0.2, 0.2, alpha=0.05, power=0.8)
