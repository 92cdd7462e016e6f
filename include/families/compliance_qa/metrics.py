"""Ranking metrics of one question each; a model's metric is the mean over questions.

Definitions follow trec_eval and the ObliQA paper (Gokhan et al. 2024, arXiv:2409.05677): recall@k divides by the number
of relevant passages, and so does the average precision at k.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

K = 10


def recall_at_k(ranked: Sequence[object], gold: Collection[object], k: int = K) -> float:
    """Share of the relevant passages that are among the first `k`. Raises `ValueError` without relevant passages."""
    return len(_relevant(gold) & set(ranked[:k])) / len(set(gold))


def average_precision_at_k(ranked: Sequence[object], gold: Collection[object], k: int = K) -> float:
    """Sum of the precisions at the ranks of relevant passages among the first `k`, over the number of relevant ones."""
    relevant, hits, total = _relevant(gold), 0, 0.0
    for rank, item in enumerate(ranked[:k], start=1):
        if item in relevant:
            hits += 1
            total += hits / rank
    return total / len(relevant)


def hit_at_k(ranked: Sequence[object], gold: Collection[object], k: int) -> float:
    """1 if a relevant passage is among the first `k`, else 0."""
    return float(not _relevant(gold).isdisjoint(ranked[:k]))


def ranking_metrics(
    rankings: Sequence[Sequence[object]], gold: Sequence[Collection[object]]
) -> dict[str, NDArray[np.float64]]:
    """Per-question `recall_at_10`, `map_at_10`, `hit_at_1` and `hit_at_10`, each of shape (n,)."""
    pairs = list(zip(rankings, gold, strict=True))
    return {
        "recall_at_10": np.array([recall_at_k(ranked, relevant) for ranked, relevant in pairs]),
        "map_at_10": np.array([average_precision_at_k(ranked, relevant) for ranked, relevant in pairs]),
        "hit_at_1": np.array([hit_at_k(ranked, relevant, 1) for ranked, relevant in pairs]),
        "hit_at_10": np.array([hit_at_k(ranked, relevant, K) for ranked, relevant in pairs]),
    }


def rank(scores: NDArray[np.float32], k: int = K) -> NDArray[np.int64]:
    """Indices of the `k` best scores of each row, best first; equal scores in ascending order of index.

    Args:
        scores: Shape (n, passages).
    """
    k = min(k, scores.shape[1])
    if k == 0:
        return np.empty((scores.shape[0], 0), dtype=np.int64)
    # A plain argpartition picks arbitrarily among equal scores at the border: take all that reach the k-th value.
    border = -np.partition(-scores, k - 1, axis=1)[:, k - 1]
    best = np.empty((scores.shape[0], k), dtype=np.int64)
    for row, limit in enumerate(border):
        reach = np.flatnonzero(scores[row] >= limit)
        best[row] = reach[np.argsort(-scores[row, reach], kind="stable")][:k]
    return best


def _relevant(gold: Collection[object]) -> set[object]:
    relevant = set(gold)
    if not relevant:
        raise ValueError("a question without relevant passages has no ranking metric")
    return relevant
