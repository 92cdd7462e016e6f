"""A promised accuracy holds as often as promised, and costs no more coverage than it must."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from include.evaluation.selective import SelectiveError, coverage_metric, find_threshold, risk_p_values

GRID = np.linspace(0, 1, 20_001)


def truth(confidence: Any) -> Any:
    """Chance of a right answer: better with confidence, never certain."""
    return 0.55 + 0.44 * np.sqrt(confidence)


def accuracy_from(threshold: float) -> float:
    return float(truth(GRID[threshold <= GRID]).mean())


def draw(rng: np.random.Generator, n: int, graded: bool = False) -> tuple[Any, Any]:
    confidence = rng.uniform(0, 1, n)
    if graded:
        return confidence, rng.beta(20 * truth(confidence), 20 * (1 - truth(confidence)))
    return confidence, (rng.random(n) < truth(confidence)).astype(float)


class TestPromise:
    @pytest.mark.parametrize(("target", "graded"), [(0.9, False), (0.93, False), (0.9, True)])
    def test_it_is_broken_in_at_most_delta_of_all_runs(self, target: float, graded: bool) -> None:
        rng, runs, delta = np.random.default_rng(17), 200, 0.1
        found = [find_threshold(*draw(rng, 1500, graded), target=target, delta=delta, seed=run) for run in range(runs)]
        promised = [each for each in found if each.threshold is not None]
        broken = sum(accuracy_from(each.threshold or 0.0) < target for each in promised)
        assert len(promised) > 0.7 * runs, "a method that promises nothing would keep every promise"
        assert broken <= stats.binom.ppf(0.999, runs, delta)
        best = max(1 - point for point in GRID[::100] if accuracy_from(point) >= target)
        assert np.mean([each.coverage for each in found]) > 0.5 * best
        assert np.mean([each.low <= best <= each.high for each in found]) >= 1 - 2 * delta

    def test_the_threshold_that_just_looks_right_breaks_it_half_of_the_time(self) -> None:
        rng, broken = np.random.default_rng(17), 0
        for _ in range(200):
            confidence, right = draw(rng, 1500)
            order = np.argsort(-confidence)
            means = np.cumsum(right[order]) / np.arange(1, 1501)
            last = np.flatnonzero(means >= 0.9)[-1]
            broken += accuracy_from(confidence[order][last]) < 0.9
        assert broken > 80

    def test_confidence_that_says_nothing_promises_nothing(self) -> None:
        rng, promised = np.random.default_rng(5), 0
        for run in range(150):
            right = (rng.random(800) < 0.88).astype(float)
            promised += find_threshold(rng.random(800), right, target=0.9, delta=0.1, seed=run).threshold is not None
        assert promised <= stats.binom.ppf(0.999, 150, 0.1)


def p_value(wrong: float, n: int, allowed: float, *, exact: bool) -> float:
    return float(risk_p_values(np.array([wrong]), np.array([n]), allowed, exact=exact)[0])


class TestResult:
    def test_a_model_that_is_always_right_answers_nearly_everything(self) -> None:
        found = find_threshold(np.linspace(0, 1, 1000), np.ones(1000), target=0.99, delta=0.05, seed=1)
        assert found.threshold is not None and found.threshold < 0.03
        assert found.coverage > 0.97 and found.accuracy == 1.0
        assert found.low < found.coverage <= found.high <= 1.0
        assert found.n == 850, "the examples that choose the thresholds do not test them"

    def test_too_few_examples_leave_it_open_and_say_how_many_it_takes(self) -> None:
        found = find_threshold(np.linspace(0, 1, 100), np.ones(100), target=0.99, delta=0.05, seed=1)
        assert (found.threshold, found.coverage, found.accuracy, found.low) == (None, 0.0, None, 0.0)
        assert found.high == 1.0, "nothing is proven, and nothing is refuted"
        assert found.least == 299

    @pytest.mark.parametrize("n", [1, 2, 7, 8])
    def test_a_handful_of_examples_is_no_error(self, n: int) -> None:
        found = find_threshold([0.5] * n, [1.0] * n, target=0.9, delta=0.05, seed=1)
        assert (found.threshold, found.low, found.coverage, found.high) == (None, 0.0, 0.0, 1.0)

    def test_a_hopeless_model_is_refuted(self) -> None:
        right = (np.arange(2000) % 2).astype(float)
        found = find_threshold(np.linspace(0, 1, 2000), right, target=0.9, delta=0.05, seed=1)
        assert found.threshold is None and found.high < 0.1

    def test_the_same_examples_give_the_same_answer(self) -> None:
        sample = draw(np.random.default_rng(2), 500)
        assert find_threshold(*sample, target=0.9, delta=0.1, seed=3) == find_threshold(
            *sample, target=0.9, delta=0.1, seed=3
        )

    @settings(max_examples=60)
    @given(st.integers(8, 400), st.floats(0.5, 0.99), st.floats(0.01, 0.3), st.integers(0, 9), st.integers(1, 30))
    def test_whatever_comes_in_the_record_is_consistent(
        self, n: int, target: float, delta: float, seed: int, levels: int
    ) -> None:
        rng = np.random.default_rng(seed)
        confidence = rng.integers(0, levels, n) / levels  # many are equal
        right = (rng.random(n) < 0.7 + 0.3 * confidence).astype(float)
        found = find_threshold(confidence, right, target=target, delta=delta, seed=seed)
        assert 0.0 <= found.low <= found.coverage <= found.high <= 1.0
        assert found.answered == round(found.coverage * found.n)
        if found.threshold is not None:
            assert found.accuracy is not None and found.accuracy >= target
            assert found.answered >= math.log(delta) / math.log(target)


class TestPValue:
    @given(st.integers(1, 500), st.integers(0, 500), st.floats(0.01, 0.5))
    def test_it_is_clopper_and_pearsons_bound_the_other_way_round(self, n: int, wrong: int, delta: float) -> None:
        wrong = min(wrong, n)
        bound = stats.binomtest(wrong, n).proportion_ci(1 - 2 * delta, method="exact").high
        allowed = min(0.999, bound * 1.001 + 1e-6)
        if bound < 0.99:
            assert p_value(wrong, n, allowed, exact=True) <= delta
        if 0.001 < bound * 0.999 - 1e-6 < 0.999:
            assert p_value(wrong, n, bound * 0.999 - 1e-6, exact=True) > delta

    @given(st.integers(1, 500), st.floats(0, 1), st.floats(0.01, 0.99))
    def test_the_bound_for_shares_is_never_bolder_than_the_exact_one(self, n: int, part: float, allowed: float) -> None:
        wrong = round(part * n)
        if wrong / n <= allowed:
            exact = p_value(wrong, n, allowed, exact=True)
            assert p_value(wrong, n, allowed, exact=False) >= exact - 1e-12

    def test_nothing_answered_proves_nothing(self) -> None:
        assert p_value(0.0, 0, 0.1, exact=True) == 1.0


@pytest.mark.parametrize(("target", "name"), [(0.99, "99"), (0.9, "90"), (0.995, "99_5"), (0.8, "80")])
def test_a_target_names_its_metric(target: float, name: str) -> None:
    assert coverage_metric(target) == f"coverage_at_{name}"


@pytest.mark.parametrize(
    ("confidence", "quality", "target"),
    [
        ([], [], 0.9),
        ([0.5] * 9, [1.0] * 8, 0.9),
        ([0.5] * 7 + [float("nan")], [1.0] * 8, 0.9),
        ([0.5] * 8, [2.0] * 8, 0.9),
        ([0.5] * 8, [1.0] * 8, 1.0),
    ],
)
def test_what_no_threshold_can_be_found_from_is_told(confidence: Any, quality: Any, target: float) -> None:
    with pytest.raises(SelectiveError):
        find_threshold(confidence, quality, target=target, delta=0.1, seed=0)
