"""How far apart two samples are, and what chance explains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import stats

from include.monitoring.distance import THRESHOLD, chance, wasserstein
from include.monitoring.features import features, vocabulary

samples = npst.arrays(np.float64, st.integers(2, 50), elements=st.floats(-100, 100, width=32))


@given(samples, samples)
def test_agrees_with_scipy(reference: np.ndarray, live: np.ndarray) -> None:
    theirs = stats.wasserstein_distance(reference, live) / max(reference.std(), 1e-3)
    assert wasserstein(reference, live) == pytest.approx(theirs, abs=1e-6, rel=1e-6)


def test_a_shift_is_measured_in_standard_deviations() -> None:
    reference = np.random.default_rng(1).normal(50, 10, 5000)
    assert wasserstein(reference, reference + 5) == pytest.approx(0.5, abs=0.02)
    assert wasserstein(reference, reference) == 0.0


@pytest.mark.parametrize("size", [20, 100, 1000])
def test_chance_shrinks_with_the_size_of_the_sample(size: int) -> None:
    rng = np.random.default_rng(2)
    reference = rng.normal(size=1000)
    explained = chance(reference, size, rng)
    fresh = [wasserstein(reference, rng.normal(size=size)) for _ in range(60)]
    assert np.mean([found <= explained for found in fresh]) >= 0.95
    if size == 1000:
        assert explained < THRESHOLD / 1.5


def test_a_reference_without_spread_does_not_divide_by_zero() -> None:
    assert wasserstein(np.ones(10), np.ones(5)) == 0.0
    assert np.isfinite(wasserstein(np.ones(10), np.zeros(5)))


class TestFeatures:
    known = vocabulary([{"question": "What does Rule 7 say?"}, {"question": "the"}])

    def test_words_are_counted_whatever_their_case(self) -> None:
        assert self.known == {"what", "does", "rule", "say", "the"}

    def test_length_and_unknown_words(self) -> None:
        found = features({"question": "What does QUORUM say"}, {"score": 0.5, "confidence": 1}, self.known)
        assert found == {
            "question_characters": 20.0,
            "question_words": 4.0,
            "question_unknown_share": 0.25,
            "score": 0.5,
            "confidence": 1.0,
        }

    @pytest.mark.parametrize("text", ["", "   ", "1234 !?", "\x00\ud800"])
    def test_text_without_words(self, text: str) -> None:
        assert features({"question": text}, {}, self.known)["question_unknown_share"] == 0.0

    def test_what_is_no_finite_number_is_left_out(self) -> None:
        outputs = {"score": float("nan"), "answer": "text", "passages": ["a"], "none": None}
        assert features({"id": None}, outputs, self.known) == {}
