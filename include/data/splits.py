"""Which split an example belongs to. Pure.

The value of `spec.split.by` is hashed to a point in [0, 1) that does not depend on any other row, so an example stays
where it is when data grows, is corrected or is read in another order, and examples that share the value stay
together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from include.spec.models import SplitSpec

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def split_point(seed: int, value: str) -> float:
    """The point of `value` in [0, 1): the first 53 bits of sha256(seed, value)."""
    digest = hashlib.sha256(f"{seed}\0{value}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def split_of(split: SplitSpec, value: object) -> str:
    """The split that examples with `value` in the column `split.by` belong to."""
    point = split_point(split.seed, str(value))
    if point < split.train:
        return TRAIN
    return VALIDATION if point < split.train + split.validation else TEST


def split_column(split: SplitSpec, values: Iterable[object]) -> list[str]:
    """The split of every value."""
    return [split_of(split, value) for value in values]


def describe_split(split: SplitSpec) -> str:
    """How examples are divided, in words; equal words, equal division."""
    return f"{split.train:g}/{split.validation:g}/{split.test:g} by {split.by}, seed {split.seed}"
