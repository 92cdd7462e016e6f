"""When a sweep stops: before it exceeds what it may take, and when it gets no better."""

from __future__ import annotations

import pytest

from include.spec.costs import ConvergenceSpec, SweepBudget
from include.training.budget import TrialFacts, converged, over_budget, spent


def _done(*seconds: float) -> list[TrialFacts]:
    return [TrialFacts(second) for second in seconds]


@pytest.mark.parametrize(
    ("trials", "stops"),
    [
        ([], False),  # the defaults are always tried
        (_done(120), False),  # 2 of 10 minutes, and another 2
        (_done(240, 240), True),  # 8, and another 4
        (_done(120, 120, 120, 120), False),  # 8, and another 2: exactly the budget
        (_done(120, 120, 120, 121), True),
        ([*_done(150), TrialFacts(10, running=True)], False),  # 2.5 + 2.5 + 2.5
        ([*_done(240), TrialFacts(10, running=True)], True),  # what runs will take 4 minutes, too
        ([TrialFacts(599, running=True)], False),  # nothing is known of what a trial takes
        ([TrialFacts(601, running=True)], True),
        ([*_done(120), TrialFacts(400, tried=False)], True),  # a trial that failed was paid for
    ],
)
def test_a_trial_does_not_start_that_would_exceed_the_minutes(trials: list[TrialFacts], stops: bool) -> None:
    reason = over_budget(trials, SweepBudget(minutes=10), None)
    assert (reason is not None) == stops
    assert reason is None or "of 10 minutes" in reason


def test_the_same_in_money() -> None:
    budget = SweepBudget(money=1.0)
    assert over_budget(_done(100, 100), budget, 0.003) is None  # 0.6, and another 0.3
    reason = over_budget(_done(100, 100, 100), budget, 0.003)
    assert reason is not None and "1.2 of 1 in money" in reason
    assert over_budget(_done(100, 100, 100), budget, None) is None
    assert over_budget(_done(10**9), SweepBudget(), 1.0) is None


def test_room_is_kept_for_repeats() -> None:
    budget = SweepBudget(minutes=10)
    assert over_budget(_done(60), budget, None, reserve=8) is None  # 1, another 1, and 8 repeats
    reason = over_budget(_done(60, 60), budget, None, reserve=8)
    assert reason is not None and "and 8 repeats would take the sweep to 11 of 10 minutes" in reason


def test_a_failed_trial_does_not_count_for_what_a_trial_takes() -> None:
    assert spent([*_done(10, 20), TrialFacts(300, tried=False)]).expected == 15
    assert spent([]).expected is None


RULE = ConvergenceSpec(patience=3, min_delta=0.125)


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ([], False),
        ([0.5, 0.5, 0.5], False),  # not one more than the patience
        ([0.5, 0.5, 0.5, 0.5], True),
        ([0.5, 0.5, 0.5, 0.75], False),
        ([0.5, 0.5, 0.5, 0.625], True),  # by min_delta, not by more
        ([0.5, 0.75, 0.5, 0.5], False),
        ([0.5, 0.75, 0.5, 0.5, None], True),  # a pruned trial improves nothing
        ([None, None, None, None], False),  # there is no best to improve
        ([None, 0.5, 0.5, 0.5], False),
        ([0.9, 0.1, 0.2, 0.3], True),
    ],
)
def test_convergence(values: list[float | None], stops: bool) -> None:
    assert (converged(values, "maximize", RULE) is not None) == stops
    lower = [None if value is None else -value for value in values]
    assert (converged(lower, "minimize", RULE) is not None) == stops
    assert converged(values, "maximize", None) is None
