"""Learns to tell sound pairs from corrupted ones, and says how well it does on pairs that it has not learnt from.

The pairs that came in count as sound, copies that the code corrupted as bad. That the first are not all sound makes the
models a little less sure and no more. Every pair is scored by models that have seen neither it nor a copy of it, so
that the figures are those of new pairs.

Probabilities are calibrated in two moves. Platt scaling on the held-out scores makes them right for the training
mixture, half of which is bad; then the odds are shifted to the share of bad pairs that is expected in real deliveries
(Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural
Computation 14, 2002).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

Vector = NDArray[np.float64]
FOLDS = 3
_RESAMPLES = 100
_EDGE = 1e-4


@dataclass(frozen=True)
class Training:
    """Pairs with labels.

    Attributes:
        sound: 1 for a pair as it came, 0 for a corrupted copy, shape (n,).
        kinds: How a copy was corrupted; empty for a pair as it came.
        origins: Names the pair that a copy was made of.
    """

    sound: NDArray[np.int64]
    kinds: Sequence[str]
    origins: Sequence[str]

    @property
    def weights(self) -> Vector:
        """Both classes weigh the same, and within the bad one every kind does."""
        kinds = np.array(self.kinds)
        weights = np.zeros(len(kinds))
        found = [kind for kind in np.unique(kinds) if kind]
        for kind in found:
            weights[kinds == kind] = 1 / (kinds == kind).sum() / len(found)
        weights[kinds == ""] = 1 / max(1, (kinds == "").sum())
        total: Vector = weights * len(kinds) / 2
        return total


@dataclass(frozen=True)
class Learnt:
    """Models of one set of features.

    Attributes:
        held_out: Probability of being sound for the training mixture, of every pair of the training, by a model that
            has not seen it, shape (n,).
        auc: Area under the ROC curve of the held-out scores, with its 95% interval (bootstrap over pairs with their
            copies).
    """

    held_out: Vector
    auc: float
    low: float
    high: float
    _models: Sequence[HistGradientBoostingClassifier]
    _platt: LogisticRegression

    def probability(self, matrix: Vector) -> Vector:
        """The same of pairs that are not in the training: the mean of the models of all folds."""
        raw = np.mean([model.decision_function(matrix) for model in self._models], axis=0)
        return _calibrated(self._platt, raw)


def learn(features: Mapping[str, Vector], training: Training, seed: int) -> dict[str, Learnt]:
    """Name of a set of features -> its models. The folds are the same for all."""
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    parts = list(folds.split(np.zeros(len(training.sound)), training.sound, training.origins))
    with threadpool_limits(limits=1):  # so little data gains nothing from threads, which wait for each other
        return {name: _learn(matrix, training, parts, seed) for name, matrix in features.items()}


def shifted(probability: Vector, expected_bad: float) -> Vector:
    """Probabilities for a mixture with the share `expected_bad` of bad pairs, from those for one with half."""
    odds = probability / (1 - probability) * (1 - expected_bad) / expected_bad
    moved: Vector = odds / (1 + odds)
    return moved


def _learn(
    matrix: Vector, training: Training, parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], seed: int
) -> Learnt:
    weights, raw, models = training.weights, np.zeros(len(training.sound)), []
    for train, test in parts:
        model = HistGradientBoostingClassifier(
            max_iter=50, learning_rate=0.12, max_leaf_nodes=12, l2_regularization=1.0, random_state=seed
        )
        model.fit(matrix[train], training.sound[train], sample_weight=weights[train])
        raw[test] = model.decision_function(matrix[test])
        models.append(model)
    platt = LogisticRegression(C=1e6).fit(raw[:, None], training.sound, sample_weight=weights)
    auc = float(roc_auc_score(training.sound, raw, sample_weight=weights))
    low, high = _interval(raw, training, weights, seed)
    return Learnt(_calibrated(platt, raw), auc, low, high, models, platt)


def _calibrated(platt: LogisticRegression, raw: Vector) -> Vector:
    found: Vector = np.clip(platt.predict_proba(raw[:, None])[:, 1], _EDGE, 1 - _EDGE)
    return found


def _interval(raw: Vector, training: Training, weights: Vector, seed: int) -> tuple[float, float]:
    _, origin = np.unique(np.array(training.origins), return_inverse=True)
    draw, count = np.random.default_rng(seed), int(origin.max()) + 1
    found = []
    for _ in range(_RESAMPLES):
        times = np.bincount(draw.integers(0, count, count), minlength=count)[origin]
        found.append(roc_auc_score(training.sound, raw, sample_weight=weights * times))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
