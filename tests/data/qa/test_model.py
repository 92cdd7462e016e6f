"""The classifiers' figures are those of pairs that they have not seen."""

from __future__ import annotations

import numpy as np
import pytest

from include.data.qa.model import Training, learn, shifted


def train(features: np.ndarray, sound: np.ndarray, origins: list[str]) -> float:
    kinds = ["" if label else "other" for label in sound]
    return learn({"all": features}, Training(sound, kinds, origins), seed=0)["all"].auc


def test_what_only_names_the_pair_teaches_nothing() -> None:
    """Were a copy of a pair on the other side of a fold, the label could be read off the pair."""
    draw = np.random.default_rng(0)
    pairs = draw.normal(size=(200, 3))
    label = draw.integers(0, 2, 200)
    features, sound = np.repeat(pairs, 4, axis=0), np.repeat(label, 4)
    assert abs(train(features, sound, [f"q-{n}" for n in np.repeat(np.arange(200), 4)]) - 0.5) < 0.15
    assert train(features, sound, [f"q-{n}" for n in range(800)]) > 0.9  # as it would look


def test_probabilities_are_calibrated_for_both_mixtures() -> None:
    draw = np.random.default_rng(1)
    sound = draw.integers(0, 2, 4_000)
    features = (sound + draw.normal(scale=1.0, size=4_000))[:, None]
    kinds = ["" if label else "other" for label in sound]
    learnt = learn({"all": features}, Training(sound, kinds, [str(n) for n in range(4_000)]), seed=0)["all"]
    for low in (0.2, 0.4, 0.6, 0.8):
        inside = (learnt.held_out >= low) & (learnt.held_out < low + 0.2)
        assert abs(sound[inside].mean() - learnt.held_out[inside].mean()) < 0.08
    rare = np.concatenate([np.flatnonzero(sound == 1)[:1_900], np.flatnonzero(sound == 0)[:100]])
    probability = shifted(learnt.held_out, 0.05)[rare]
    assert abs(probability.mean() - 0.95) < 0.02
    assert learnt.low < learnt.auc < learnt.high


def test_the_shift_keeps_the_order_and_no_shift_changes_nothing() -> None:
    before = np.array([0.1, 0.5, 0.9])
    assert shifted(before, 0.5) == pytest.approx(before)
    assert list(shifted(before, 0.02)) == sorted(shifted(before, 0.02))
    assert shifted(np.array([0.5]), 0.02)[0] == pytest.approx(0.98)
