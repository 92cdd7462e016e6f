"""Joins the lexical and the dense score, and says how sure the result is.

Fused score = alpha x BM25, scaled to [0, 1] over the corpus per question, + (1 - alpha) x cosine similarity: the convex
combination of Bruch et al. 2023 ("An Analysis of Fusion Functions for Hybrid Retrieval", TOIS). alpha is chosen on the
validation questions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from include.families.compliance_qa.metrics import rank, ranking_metrics

Scores = NDArray[np.float32]
ALPHAS = tuple(round(0.05 * step, 2) for step in range(20))
_EPSILON = np.float32(1e-9)


def scaled(lexical: Scores) -> Scores:
    """BM25 scores with each row moved to [0, 1]; a row of equal scores (no word matched) becomes 0.

    Args:
        lexical: Shape (n, passages).
    """
    low = lexical.min(axis=1, keepdims=True)
    span = lexical.max(axis=1, keepdims=True) - low
    out: Scores = ((lexical - low) / (span + _EPSILON)).astype(np.float32)
    return out


def fuse(lexical: Scores, dense: Scores, alpha: float) -> Scores:
    """The fused scores. `lexical` is already `scaled`; both of shape (n, passages)."""
    out: Scores = np.float32(alpha) * lexical + np.float32(1.0 - alpha) * dense
    return out


def choose_alpha(lexical: Scores, dense: Scores, gold: Sequence[Collection[int]]) -> tuple[float, dict[str, float]]:
    """The weight of BM25 that gives the best mean of recall@10 and MAP@10, and the metrics that it gives.

    `gold` holds column numbers. Of equal weights the smallest wins.
    """
    best: tuple[float, float, dict[str, float]] | None = None
    for alpha in ALPHAS:
        per_question = ranking_metrics(rank(fuse(lexical, dense, alpha)).tolist(), gold)
        means = {name: float(values.mean()) for name, values in per_question.items()}
        value = means["recall_at_10"] + means["map_at_10"]
        if best is None or value > best[0] + 1e-12:
            best = (value, alpha, means)
    assert best is not None  # ALPHAS is not empty
    return best[1], best[2]


def confidence_features(scores: Scores) -> NDArray[np.float64]:
    """What confidence is read off: the best fused score, and its lead over the second. Shape (n, 3), first column 1.

    Args:
        scores: Scores of the ranked passages, best first, shape (n, k).
    """
    first = scores[:, 0].astype(np.float64)
    second = scores[:, 1].astype(np.float64) if scores.shape[1] > 1 else np.zeros_like(first)
    return np.stack([np.ones_like(first), first, first - second], axis=1)


def fit_confidence(scores: Scores, hits: NDArray[np.float64], ridge: float = 1.0, steps: int = 50) -> list[float]:
    """Weights of a logistic regression of "the first passage is right" on `confidence_features` (Platt scaling).

    Newton's method with a ridge penalty on the slopes, which keeps the weights finite where the classes separate.

    Args:
        hits: 1 where the first passage is right, shape (n,).
    """
    features = confidence_features(scores)
    penalty = np.diag([1e-6, ridge, ridge])
    weights = np.zeros(features.shape[1])
    for _ in range(steps):
        p = 1.0 / (1.0 + np.exp(-features @ weights))
        gradient = features.T @ (p - hits) + penalty @ weights
        hessian = (features * (p * (1 - p))[:, None]).T @ features + penalty
        change = np.linalg.solve(hessian, gradient)
        weights -= change
        if np.abs(change).max() < 1e-9:
            break
    return [float(weight) for weight in weights]


def confidence(scores: Scores, weights: Sequence[float]) -> NDArray[np.float64]:
    """Probability that the first passage is right, shape (n,)."""
    logits = confidence_features(scores) @ np.asarray(weights, dtype=np.float64)
    out: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))
    return out
