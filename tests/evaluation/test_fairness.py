"""The gap between groups: its interval holds for all groups at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from include.evaluation.fairness import Gap, find_gap


def gap(values: Any, labels: Any, *, lower: bool = False, bounds: Any = (0.0, 1.0), **changes: Any) -> Gap | None:
    usual = {"smallest": 20, "confidence": 0.95, "resamples": 500, "seed": 1, **changes}
    return find_gap(np.asarray(values, dtype=float), labels, lower_is_better=lower, bounds=bounds, **usual)


def groups(**shares: tuple[int, int]) -> tuple[list[float], list[str]]:
    """Group -> (ones, examples)."""
    values = [float(k < ones) for ones, n in shares.values() for k in range(n)]
    return values, [name for name, (_, n) in shares.items() for _ in range(n)]


def test_the_worst_group_and_how_far_it_is_behind() -> None:
    found = gap(*groups(a=(95, 100), b=(60, 100), c=(90, 100)))
    assert found is not None
    assert (found.best_group, found.worst_group) == ("a", "b")
    assert found.gap.value == pytest.approx(0.35)
    assert 0.1 < found.gap.low < 0.35 < found.gap.high < 0.6
    assert found.worst.value == 0.6 and found.worst.low < 0.5
    assert found.gap.n == 300


def test_of_an_error_the_worst_is_the_highest() -> None:
    values, labels = groups(a=(95, 100), b=(60, 100))
    found = gap(values, labels, lower=True)
    assert found is not None
    assert (found.best_group, found.worst_group) == ("b", "a")
    assert found.worst.value == 0.95 and found.gap.value == pytest.approx(0.35)


def test_small_groups_are_named_and_not_compared() -> None:
    found = gap(*groups(a=(50, 60), b=(45, 60), tiny=(0, 5)))
    assert found is not None
    assert found.left_out == {"tiny": 5} and set(found.groups) == {"a", "b"}
    assert gap(*groups(a=(50, 60), tiny=(0, 5))) is None
    assert gap([], []) is None


def test_more_groups_make_each_interval_wider() -> None:
    few = gap(*groups(a=(50, 60), b=(45, 60)))
    many = gap(*groups(**{f"g{n}": (50, 60) for n in range(12)}))
    assert few is not None and many is not None
    assert many.groups["g0"].high - many.groups["g0"].low > few.groups["a"].high - few.groups["a"].low


def test_groups_that_are_all_right_may_still_differ() -> None:
    found = gap(*groups(a=(30, 30), b=(30, 30)))
    assert found is not None
    assert found.gap.value == 0.0 and found.gap.low == 0.0 and found.gap.high > 0.1


@pytest.mark.parametrize(("kind", "rounds", "least"), [("hits", 200, 0.95), ("parts", 60, 0.93), ("errors", 20, 0.9)])
def test_the_interval_holds_the_true_gap_as_often_as_it_says(kind: str, rounds: int, least: float) -> None:
    """Six groups that truly differ by 0.2 at most: what one interval alone would miss far more often than promised."""
    rng = np.random.default_rng(11)
    true = np.array([0.6, 0.65, 0.7, 0.7, 0.75, 0.8])
    labels = [f"g{group}" for group in range(6) for _ in range(40)]
    held = {"gap": 0, "worst": 0}
    for number in range(rounds):
        hits = (rng.random((6, 40)) < true[:, None]).astype(float)
        if kind == "hits":
            values, bounds, expected = hits, (0.0, 1.0), true
        elif kind == "parts":  # as recall: 0, a half, or 1
            values, bounds, expected = (hits + (rng.random((6, 40)) < true[:, None])) / 2, (0.0, 1.0), true
        else:
            values, bounds, expected = rng.exponential(true[:, None], (6, 40)), None, true
        found = gap(values.ravel(), labels, bounds=bounds, lower=kind == "errors", resamples=200, seed=number)
        assert found is not None
        held["gap"] += found.gap.low <= np.ptp(expected) <= found.gap.high
        worst = expected.max() if kind == "errors" else expected.min()
        held["worst"] += found.worst.low <= worst <= found.worst.high
    assert held["gap"] / rounds >= least and held["worst"] / rounds >= least, held
