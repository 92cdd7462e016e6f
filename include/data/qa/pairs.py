"""A question, its answer and what it cites, as the validators see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """One pair.

    Attributes:
        key: Names the pair; copies made of it have the same, so that they stay on one side of a split.
        evidence: The text of all cited passages, one after the other.
        passage: Key of the first cited passage.
        group: What the passage belongs to, such as its document.
    """

    key: str
    question: str
    answer: str
    evidence: str
    passage: str
    group: str
