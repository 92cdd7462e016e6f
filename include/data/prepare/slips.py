"""Typing errors as hands make them. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable

_MIN_WORD = 4
_SLIPS: tuple[Callable[[str, int], str], ...] = (
    lambda word, at: word[:at] + word[at + 1] + word[at] + word[at + 2 :],  # swapped
    lambda word, at: word[:at] + word[at + 1 :],  # dropped
    lambda word, at: word[: at + 1] + word[at:],  # doubled
)


def misspelt(rng: random.Random, text: str, rate: float) -> str:
    """The text with a slip in this share of its words."""
    return " ".join(_slip(rng, word) if rng.random() < rate else word for word in text.split(" "))


def _slip(rng: random.Random, word: str) -> str:
    """The word with one slip inside; words that are short or hold a digit are left: numbers carry the meaning."""
    slip, place = rng.choice(_SLIPS), rng.random()
    if len(word) < _MIN_WORD or not word.isalpha():
        return word
    return slip(word, 1 + int(place * (len(word) - 2)))
