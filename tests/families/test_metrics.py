"""Ranking metrics by hand-counted examples, and their laws by random ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.families.compliance_qa.fusion import ALPHAS, choose_alpha, confidence, fit_confidence, fuse, scaled
from include.families.compliance_qa.metrics import (
    average_precision_at_k,
    hit_at_k,
    rank,
    ranking_metrics,
    recall_at_k,
)

TEN = list("abcdefghij")


def test_recall_divides_by_the_number_of_relevant_passages() -> None:
    assert recall_at_k(TEN, ["a", "j", "x", "y"]) == 0.5
    assert recall_at_k([*TEN, "x"], ["x"]) == 0.0  # eleventh


def test_average_precision_by_hand() -> None:
    assert average_precision_at_k(TEN, ["a"]) == 1.0
    assert average_precision_at_k(TEN, ["b"]) == 0.5
    assert average_precision_at_k(TEN, ["a", "c"]) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert average_precision_at_k(TEN, ["a", "x"]) == 0.5  # the missing one counts in the divisor
    assert average_precision_at_k(TEN, list("abcdefghijklmnopqrst")) == 0.5  # and so do those that cannot fit


def test_hit() -> None:
    assert hit_at_k(TEN, ["b"], 1) == 0.0
    assert hit_at_k(TEN, ["b"], 2) == 1.0


def test_a_question_without_relevant_passages_is_refused() -> None:
    for metric in (recall_at_k, average_precision_at_k):
        with pytest.raises(ValueError, match="without relevant"):
            metric(TEN, [])


@given(st.permutations(list(range(12))), st.sets(st.integers(0, 20), min_size=1, max_size=5))
def test_laws(ranked: list[int], gold: set[int]) -> None:
    recall, precision = recall_at_k(ranked, gold), average_precision_at_k(ranked, gold)
    assert 0 <= precision <= recall <= 1
    assert hit_at_k(ranked, gold, 10) == float(recall > 0)
    found = ranking_metrics([ranked], [gold])
    assert found["recall_at_10"][0] == recall and found["map_at_10"][0] == precision


@given(st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=4), st.integers(0, 9))
def test_rank_is_a_stable_full_sort_cut_at_k(rows: list[list[int]], k: int) -> None:
    scores = np.array(rows, dtype=np.float32)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert rank(scores, k).tolist() == expected.tolist()


def test_scaled_rows_span_zero_to_one_and_a_row_without_a_match_is_zero() -> None:
    found = scaled(np.array([[2.0, 4.0, 3.0], [0.0, 0.0, 0.0]], dtype=np.float32))
    assert found == pytest.approx(np.array([[0.0, 1.0, 0.5], [0.0, 0.0, 0.0]]), abs=1e-6)


def test_alpha_leans_to_the_side_that_ranks_better() -> None:
    random = np.random.default_rng(0)
    gold = [[i % 30] for i in range(60)]
    right = random.random((60, 30)).astype(np.float32) * 0.5
    right[np.arange(60), [g[0] for g in gold]] = 0.45
    noise = random.random((60, 30)).astype(np.float32)
    lexical_wins, _ = choose_alpha(right, noise, gold)
    dense_wins, metrics = choose_alpha(noise, right, gold)
    assert lexical_wins > 0.5 > dense_wins
    assert max(ALPHAS) < 1.0  # 1 means: no encoder
    by_hand = ranking_metrics(rank(fuse(noise, right, dense_wins)).tolist(), gold)
    assert metrics["map_at_10"] == pytest.approx(by_hand["map_at_10"].mean())


def test_confidence_grows_with_score_and_lead_and_is_calibrated_on_average() -> None:
    random = np.random.default_rng(1)
    lead = random.random(400)
    scores = np.stack([0.5 + lead / 2, 0.5 * np.ones(400)], axis=1).astype(np.float32)
    hits = (random.random(400) < lead).astype(np.float64)
    weights = fit_confidence(scores, hits)
    sure = confidence(scores, weights)
    assert sure.mean() == pytest.approx(hits.mean(), abs=0.01)
    assert np.all(np.diff(sure[np.argsort(lead)]) >= 0)
    assert np.all((sure > 0) & (sure < 1))


def test_confidence_stays_finite_where_every_answer_was_right() -> None:
    scores = np.random.default_rng(2).random((20, 2)).astype(np.float32)
    assert np.isfinite(fit_confidence(scores, np.ones(20))).all()
