"""Stages are judged on evidence: fail fast when it is sure, pass when it is enough, and never pass on too little."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from include.release.bounds import ALPHA, boundary, newcombe, paired_interval, wilson
from include.release.evidence import Observed, Quality, pooled
from include.release.rollout import decide
from include.spec.rollout import GuardrailSpec, StageSpec

STAGE = StageSpec(name="half", traffic=0.5, min_seconds=10, max_seconds=60, min_requests=100, min_labels=40)
RAILS = GuardrailSpec(max_error_rate=0.02, max_latency_ratio=1.5, latency_floor_ms=50, max_quality_drop=0.05)


def seen(quality: float = 0.9, labels: int = 60, **changes: Any) -> dict[str, Any]:
    return {
        "requests": 200,
        "errors": 0,
        "latency_p50_ms": 10.0,
        "latency_p95_ms": 30.0,
        "labels": labels,
        "quality": {"hit_at_10": {"mean": quality, "n": labels}} if labels else {},
        **changes,
    }


def judged(
    candidate: dict[str, Any] | None = None,
    champion: dict[str, Any] | bool | None = True,
    seconds: float = 20,
    stage: StageSpec = STAGE,
    **fields: Any,
) -> dict[str, Any]:
    return decide(
        {
            "stage": stage.model_dump(),
            "guardrails": RAILS.model_dump(),
            "seconds": seconds,
            "candidate": seen() if candidate is None else candidate,
            "champion": seen() if champion is True else champion,
            **fields,
        }
    )


def answer(outcome: dict[str, Any]) -> str:
    return "WAIT" if outcome["wait"] else outcome["verdict"]


class TestEvidence:
    def test_a_good_candidate_passes_when_the_minima_are_met(self) -> None:
        assert answer(judged()) == "PASS"

    @pytest.mark.parametrize(
        "missing", [{"candidate": seen(requests=99)}, {"candidate": seen(labels=39)}, {"seconds": 9.9}]
    )
    def test_it_waits_for_every_minimum(self, missing: dict[str, Any]) -> None:
        assert answer(judged(**missing)) == "WAIT"

    @pytest.mark.parametrize("missing", [{"requests": 99}, {"labels": 39}, {"requests": 0, "labels": 0}])
    def test_time_over_without_enough_evidence_is_inconclusive(self, missing: dict[str, Any]) -> None:
        outcome = judged(seen(**missing), seconds=60)
        assert answer(outcome) == "INCONCLUSIVE"
        assert "are over" in outcome["why"][-1] or any("are over" in why for why in outcome["why"])

    def test_no_traffic_at_all_never_passes(self) -> None:
        nothing = {"requests": 0, "latency_p50_ms": None, "latency_p95_ms": None}
        assert answer(judged(nothing, nothing, seconds=20)) == "WAIT"
        assert answer(judged(nothing, nothing, seconds=60)) == "INCONCLUSIVE"

    def test_an_unreachable_gateway_never_passes(self) -> None:
        assert answer(judged({}, None, seconds=20, unreachable="refused")) == "WAIT"
        outcome = judged(seen(), seconds=60, unreachable="connection refused")
        assert answer(outcome) == "INCONCLUSIVE"
        assert any("connection refused" in why for why in outcome["why"])


class TestErrors:
    def test_surely_too_many_fail_at_once(self) -> None:
        assert answer(judged(seen(requests=30, errors=15), seconds=1)) == "FAIL"

    def test_one_error_among_few_requests_waits_for_more(self) -> None:
        assert answer(judged(seen(requests=40, errors=1), seconds=1)) == "WAIT"
        assert answer(judged(seen(requests=400, errors=1))) == "PASS"

    def test_a_rate_that_stays_doubtful_does_not_pass(self) -> None:
        assert answer(judged(seen(requests=120, errors=4))) == "WAIT"
        assert answer(judged(seen(requests=120, errors=4), seconds=60)) == "INCONCLUSIVE"


class TestLatency:
    def test_fast_enough_is_fast_enough_whatever_the_ratio(self) -> None:
        assert answer(judged(seen(latency_p95_ms=49.0), seen(latency_p95_ms=1.0))) == "PASS"

    def test_a_slow_tail_waits_and_then_fails(self) -> None:
        slow = seen(latency_p95_ms=90.0)
        assert answer(judged(slow, seen(latency_p95_ms=40.0), seconds=20)) == "WAIT"
        assert answer(judged(slow, seen(latency_p95_ms=40.0), seconds=60)) == "FAIL"
        assert answer(judged(slow, seen(latency_p95_ms=80.0))) == "PASS"

    def test_a_slow_median_fails_at_once(self) -> None:
        slow = seen(requests=30, latency_p50_ms=200.0, latency_p95_ms=300.0)
        assert answer(judged(slow, seconds=1)) == "FAIL"

    def test_a_slow_median_waits_until_the_champion_has_shown_what_slow_means(self) -> None:
        slow = seen(requests=30, latency_p50_ms=200.0, latency_p95_ms=300.0)
        silent = seen(requests=0, labels=0, latency_p50_ms=None, latency_p95_ms=None)
        assert answer(judged(slow, silent, seconds=1)) == "WAIT"
        assert answer(judged(slow, seen(latency_p50_ms=190.0, latency_p95_ms=290.0))) != "FAIL"

    def test_a_slow_median_alone_fails_only_when_it_lasts(self) -> None:
        slow = seen(requests=60, latency_p50_ms=200.0, latency_p95_ms=300.0)
        full = STAGE.model_copy(update={"traffic": 1.0})
        for champion in (seen(), None):
            assert answer(judged(slow, champion, stage=full, seconds=29)) == "WAIT"
            assert answer(judged(slow, champion, stage=full, seconds=30)) == "FAIL"

    def test_a_slow_tail_of_few_requests_is_not_held_against_it(self) -> None:
        slow = seen(requests=30, latency_p95_ms=90.0)
        assert answer(judged(slow, seen(latency_p95_ms=40.0), seconds=60)) == "INCONCLUSIVE"


class TestQuality:
    def test_surely_worse_fails_before_the_time_is_over(self) -> None:
        assert answer(judged(seen(0.4, 40), seen(0.9, 200), seconds=5)) == "FAIL"

    def test_perhaps_worse_waits_for_labels_and_does_not_pass(self) -> None:
        doubtful = seen(0.8, 40)
        assert answer(judged(doubtful)) == "WAIT"
        assert answer(judged(doubtful, seconds=60)) == "INCONCLUSIVE"

    def test_within_the_tolerance_passes(self) -> None:
        assert answer(judged(seen(0.86, 60))) == "PASS"

    def test_pairs_on_the_same_requests_are_sharper(self) -> None:
        stage = STAGE.model_copy(update={"traffic": 0.0, "shadow": True})
        candidate, champion = seen(0.78, 200), seen(0.9, 200)
        assert answer(judged(candidate, champion, stage=stage)) == "WAIT"
        pairs = {"hit_at_10": {"mean": -0.12, "n": 200, "sd": 0.5}}
        assert answer(judged(candidate, champion, stage=stage, paired=pairs)) == "WAIT"
        surely = {"hit_at_10": {"mean": -0.12, "n": 200, "sd": 0.3}}
        assert answer(judged(candidate, champion, stage=stage, paired=surely)) == "FAIL"

    def test_labels_of_another_metric_do_not_count(self) -> None:
        helpful = {**seen(), "quality": {"helpful": {"mean": 1.0, "n": 60}}}
        assert answer(judged(helpful)) == "WAIT"
        assert answer(judged(helpful, seconds=60)) == "INCONCLUSIVE"

    def test_a_champion_without_labels_cannot_be_compared_with(self) -> None:
        assert answer(judged(seen(), seen(labels=0), seconds=60)) == "INCONCLUSIVE"

    def test_a_stage_that_asks_for_no_labels_needs_none(self) -> None:
        stage = STAGE.model_copy(update={"min_labels": 0})
        assert answer(judged(seen(labels=0), seen(labels=0), stage=stage)) == "PASS"

    def test_where_nothing_served_before_only_errors_and_labels_count(self) -> None:
        assert answer(judged(seen(0.2), None)) == "PASS"
        assert answer(judged(seen(errors=100), None)) == "FAIL"


class TestIntervals:
    @pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 40), (39, 40), (500, 1000)])
    def test_wilson_agrees_with_scipy(self, hits: int, n: int) -> None:
        theirs = stats.binomtest(hits, n).proportion_ci(confidence_level=0.99, method="wilson")
        assert wilson(hits / n, n, 2.5758293035489004) == pytest.approx((theirs.low, theirs.high))

    def test_newcombe_gives_the_published_interval(self) -> None:
        # Newcombe 1998, table II, method 10, example (a): 56/70 - 48/80, 95%
        low, high = newcombe(Quality(mean=56 / 70, n=70), Quality(mean=48 / 80, n=80), 1.959963985)
        assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)

    def test_pairs_without_any_difference_prove_little(self) -> None:
        low, high = paired_interval(Quality(mean=0.0, n=10, sd=0.0), 1.96)
        assert low == -high
        assert high > 0.15

    @given(st.floats(0, 1), st.integers(1, 10_000), st.floats(0, 1), st.integers(1, 10_000))
    def test_the_difference_lies_inside(self, one: float, n: int, other: float, m: int) -> None:
        low, high = newcombe(Quality(mean=one, n=n), Quality(mean=other, n=m), boundary(n))
        assert -1.0 <= low <= one - other + 1e-9
        assert one - other - 1e-9 <= high <= 1.0


class TestLooking:
    """A stage is looked at again and again, and may not condemn a good candidate for that."""

    def test_the_boundary_is_crossed_as_rarely_as_it_says(self) -> None:
        rng = np.random.default_rng(1)
        n = np.arange(1, 2001)
        limits = np.array([boundary(number) for number in n])
        walks = np.abs(np.cumsum(rng.standard_normal((1000, n.size)), axis=1)) / np.sqrt(n)
        crossed = (walks > limits).any(axis=1).mean()
        assert crossed <= ALPHA + 0.015
        assert (walks > 1.96).any(axis=1).mean() > 0.3  # what the usual interval would have done

    def test_equal_candidates_are_hardly_ever_condemned(self) -> None:
        rng = np.random.default_rng(2)
        condemned = 0
        for _ in range(100):
            hits = rng.random((2, 400)) < 0.8
            looks = range(10, 400, 10)
            totals = np.cumsum(hits, axis=1)
            for n in looks:
                candidate, champion = (seen(totals[side][n - 1] / n, n, requests=n) for side in (0, 1))
                outcome = judged(candidate, champion, seconds=1)
                if answer(outcome) == "FAIL":
                    condemned += 1
                    break
        assert condemned <= 3


class TestPooling:
    def test_stages_add_up(self) -> None:
        stages = [Observed.model_validate(seen(0.5, 100)), Observed.model_validate(seen(0.9, 300, latency_p95_ms=40.0))]
        found = pooled(stages)
        assert found is not None
        assert (found.requests, found.labels, found.latency_p95_ms) == (400, 400, 40.0)
        assert found.quality["hit_at_10"].mean == pytest.approx(0.8)

    def test_no_stage_is_nothing(self) -> None:
        assert pooled([]) is None


counts = st.integers(0, 300)
qualities = st.floats(0, 1)


@given(counts, counts, qualities, counts, qualities, st.floats(0, 59.9))
def test_nothing_is_final_before_its_time_but_pass_and_fail(
    requests: int, errors: int, mine: float, labels: int, theirs: float, seconds: float
) -> None:
    candidate = seen(mine, labels, requests=requests, errors=min(errors, requests))
    outcome = judged(candidate, seen(theirs, 100), seconds=seconds)
    assert answer(outcome) in {"PASS", "FAIL", "WAIT"}
    if answer(outcome) == "PASS":
        assert requests >= STAGE.min_requests
        assert labels >= STAGE.min_labels
        assert seconds >= STAGE.min_seconds
        assert min(errors, requests) / requests <= RAILS.max_error_rate
        assert set(outcome["checks"].values()) == {"pass"}


@given(counts, counts, qualities, counts, qualities, st.floats(60, 1e6))
def test_every_stage_ends(requests: int, errors: int, mine: float, labels: int, theirs: float, seconds: float) -> None:
    candidate = seen(mine, labels, requests=requests, errors=min(errors, requests))
    assert not judged(candidate, seen(theirs, 100), seconds=seconds)["wait"]


@given(counts, qualities, qualities, st.integers(1, 300))
def test_one_more_error_never_helps(errors: int, mine: float, theirs: float, requests: int) -> None:
    order = {"FAIL": 0, "WAIT": 1, "PASS": 2}
    fewer, more = (
        answer(judged(seen(mine, requests=requests, errors=min(number, requests)), seen(theirs)))
        for number in (errors, errors + 1)
    )
    assert order[more] <= order[fewer]


def test_what_decides_is_said_first() -> None:
    outcome = judged(seen(0.86, labels=10, crashes=9), seen(labels=10), seconds=1)
    assert outcome["checks"]["minima"] == "wait" and outcome["checks"]["crashes"] == "fail"
    assert outcome["why"][0].startswith("crashes: 9 ")
    assert outcome["why"][1].startswith("evidence: ")
