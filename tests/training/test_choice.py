"""Which trial wins: rules on plain numbers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.spec.search import ConfirmSpec, SweepSpec
from include.training.choice import Outcome, confirm, pareto_front, ranked

SPACE = {"rate": {"kind": "float", "low": 0.0, "high": 1.0}}


def _sweep(second: dict[str, Any] | None = None, direction: str = "maximize") -> SweepSpec:
    values = {"metric": "m", "direction": direction, "pruner": "none", "space": SPACE, "second": second}
    return SweepSpec.model_validate(values)


ONE = _sweep()
WITHIN = _sweep({"metric": "latency_p50_ms", "limit": 10.0})
KNEE = _sweep({"metric": "latency_p50_ms", "choose": "knee"})
BEST = _sweep({"metric": "latency_p50_ms", "choose": "best"})
FAST, MIDDLE, GOOD, WORSE = Outcome(0, 0.5, 1), Outcome(1, 0.8, 3), Outcome(2, 0.9, 21), Outcome(3, 0.7, 4)
ALL = [FAST, MIDDLE, GOOD, WORSE]


def _trials(outcomes: list[Outcome]) -> list[int]:
    return [outcome.trial for outcome in outcomes]


def test_the_best_metric_wins_and_a_tie_goes_to_the_earlier_trial() -> None:
    values = [Outcome(0, 0.5), Outcome(1, 0.9), Outcome(2, 0.9), Outcome(3, 0.1)]
    assert _trials(ranked(values, ONE)) == [1, 2, 0, 3]
    assert _trials(ranked(values, _sweep(direction="minimize"))) == [3, 0, 1, 2]
    assert _trials(pareto_front(values, ONE)) == [1]


def test_the_front_is_what_no_other_beats() -> None:
    assert _trials(pareto_front(ALL, KNEE)) == [2, 1, 0]
    twice = [*ALL, Outcome(4, 0.8, 3)]
    assert _trials(pareto_front(twice, KNEE)) == [2, 1, 0]


def test_within_takes_the_best_metric_that_the_limit_allows() -> None:
    assert _trials(ranked(ALL, WITHIN)) == [1, 3, 0, 2]
    dear = [Outcome(0, 0.9, 30), Outcome(1, 0.5, 12), Outcome(2, 0.6, 12)]
    assert _trials(ranked(dear, WITHIN)) == [2, 1, 0]  # none is within: the nearest, and of those the best
    at_the_limit = Outcome(9, 0.85, 10.0)
    assert ranked([*ALL, at_the_limit], WITHIN)[0] == at_the_limit


def test_a_limit_from_below() -> None:
    sweep = _sweep({"metric": "throughput_per_second", "direction": "maximize", "limit": 100})
    slow, fast, faster = Outcome(0, 0.9, 99), Outcome(1, 0.8, 100), Outcome(2, 0.7, 500)
    assert _trials(ranked([slow, fast, faster], sweep)) == [1, 2, 0]
    assert _trials(pareto_front([slow, fast, faster], sweep)) == [0, 1, 2]


def test_the_knee_is_nearest_to_the_best_of_both() -> None:
    assert _trials(ranked(ALL, KNEE)) == [1, 2, 0, 3]  # on the front's scale (0.25, 0.1), (0, 1), (1, 0); 3 is off it
    assert _trials(ranked([FAST], KNEE)) == [0]
    assert _trials(ranked(ALL, BEST))[0] == 2


values = st.floats(-10, 10).map(lambda value: round(value, 1))


@given(st.lists(st.tuples(values, values), min_size=1, max_size=20))
def test_the_winner_of_every_rule_is_on_the_front_and_nothing_on_the_front_is_beaten(pairs: list[Any]) -> None:
    found = [Outcome(number, *pair) for number, pair in enumerate(pairs)]
    front = pareto_front(found, KNEE)
    for one in front:
        assert not any(
            (other.value > one.value and other.second <= one.second)
            or (other.value >= one.value and other.second < one.second)
            for other in found
        )
    assert all(any(one.value >= other.value and one.second <= other.second for one in front) for other in found)
    assert ranked(found, KNEE)[0] in front
    assert ranked(found, BEST)[0] in front


RULE = ConfirmSpec(top=2, seeds=3, spread=1.0)
LUCKY, STEADY = Outcome(0, 0.9), Outcome(1, 0.85)


def test_repeats_find_the_steady_one_behind_the_lucky_one() -> None:
    repeats = {0: {1: 0.95, 2: 0.70, 3: 0.84}, 1: {1: 0.82, 2: 0.83, 3: 0.81}}
    found = confirm([LUCKY, STEADY, Outcome(2, 0.1)], repeats, ONE, RULE)
    assert (found.trial, found.changed) == (1, True)
    lucky, steady = found.repeated
    assert lucky.mean == pytest.approx(0.83) and lucky.spread == pytest.approx(0.12530, abs=1e-5)
    assert lucky.score == pytest.approx(0.83 - 0.12530, abs=1e-5)
    assert (steady.mean, steady.n) == (pytest.approx(0.82), 3)
    # By the mean alone, the lucky one stays.
    assert confirm([LUCKY, STEADY], repeats, ONE, ConfirmSpec(spread=0.0)).changed is False


def test_where_less_is_better_the_spread_is_added() -> None:
    repeats = {0: {1: 0.1, 2: 0.5}, 1: {1: 0.31, 2: 0.31}}
    found = confirm([Outcome(0, 0.1), Outcome(1, 0.3)], repeats, _sweep(direction="minimize"), RULE)
    assert found.trial == 1 and found.changed
    assert found.repeated[0].score == pytest.approx(0.3 + 0.28284, abs=1e-5)


def test_only_seeds_that_all_were_trained_with_count() -> None:
    repeats = {0: {1: 0.5, 2: 0.5, 3: 9.0}, 1: {1: 0.6, 2: 0.6}}  # the budget ended it
    found = confirm([LUCKY, STEADY], repeats, ONE, RULE)
    assert found.trial == 1 and [row.n for row in found.repeated] == [2, 2]


@pytest.mark.parametrize("repeats", [{}, {0: {1: 0.1}, 1: {1: 0.9}}, {1: {1: 0.9, 2: 0.9, 3: 0.9}}])
def test_without_two_seeds_of_all_the_sweeps_best_stays(repeats: dict[int, dict[int, float | None]]) -> None:
    found = confirm([LUCKY, STEADY], repeats, ONE, RULE)
    assert (found.trial, found.changed) == (0, False)
    assert "the sweep's best stays" in found.why


def test_a_configuration_that_diverges_with_some_seed_is_out() -> None:
    repeats: dict[int, dict[int, float | None]] = {0: {1: 0.9, 2: None, 3: 0.9}, 1: {1: 0.5, 2: 0.4, 3: 0.5}}
    found = confirm([LUCKY, STEADY], repeats, ONE, RULE)
    assert (found.trial, found.changed) == (1, True)
    assert (found.repeated[0].score, found.repeated[0].diverged) == (None, 1)
    repeats[1][3] = None
    assert confirm([LUCKY, STEADY], repeats, ONE, RULE).trial == 0  # all of them: nothing to choose by


def test_a_tie_of_repeats_stays_with_the_sweeps_best() -> None:
    repeats = {4: {1: 0.5, 2: 0.7}, 1: {1: 0.5, 2: 0.7}}
    assert confirm([Outcome(4, 0.9), Outcome(1, 0.8)], repeats, ONE, RULE).trial == 4


def test_with_two_objectives_the_rule_holds_for_the_repeats_as_well() -> None:
    repeats = {1: {1: 0.5, 2: 0.5}, 3: {1: 0.7, 2: 0.7}}
    assert confirm(ALL, repeats, WITHIN, RULE).trial == 3  # both are within the limit
    rule = ConfirmSpec(top=3, seeds=2)
    repeats = {1: {1: 0.8, 2: 0.8}, 2: {1: 0.95, 2: 0.95}, 0: {1: 0.5, 2: 0.5}}
    assert confirm(ALL, repeats, KNEE, rule).trial == 1  # 2 gained, and still costs seven times as much
    assert confirm(ALL, repeats, BEST, rule).trial == 2
