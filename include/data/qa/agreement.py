"""How far reviewers agree, on one pair and over all of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum


class Answer(str, Enum):
    """What a reviewer says of a pair."""

    RIGHT = "right"
    WRONG = "wrong"
    UNSURE = "unsure"


def settled(answers: Sequence[Answer], needed: int, share: float) -> Answer | None:
    """What reviewers found a pair to be; None where too few answered, or too few of them the same.

    Args:
        needed: Answers that a pair needs.
        share: Of the answers that must be the same.
    """
    if len(answers) < needed:
        return None
    answer, times = Counter(answers).most_common(1)[0]
    return answer if answer is not Answer.UNSURE and times >= share * len(answers) else None


def observed_agreement(answers: Sequence[Sequence[Answer]]) -> float | None:
    """Share of equal ones among all couples of answers to the same pair; None where no pair has two answers."""
    couples = [_couples(row) for row in answers if len(row) > 1]
    return sum(same for same, _ in couples) / sum(of for _, of in couples) if couples else None


def fleiss_kappa(answers: Sequence[Sequence[Answer]]) -> float | None:
    """Agreement beyond what chance would give, at most 1. None where it is not defined: no answers, or all the same.

    Fleiss, "Measuring nominal scale agreement among many raters", Psychological Bulletin 76, 1971; pairs with another
    number of answers than the most common one are left out, as it asks for the same number of all.
    """
    sizes = Counter(len(row) for row in answers if len(row) > 1)
    if not sizes:
        return None
    size = max(sizes, key=lambda n: (sizes[n], n))
    rows = [row for row in answers if len(row) == size]
    share = Counter(answer for row in rows for answer in row)
    by_chance = sum((times / (size * len(rows))) ** 2 for times in share.values())
    if by_chance == 1:
        return None
    observed = sum(_couples(row)[0] for row in rows) / sum(_couples(row)[1] for row in rows)
    return (observed - by_chance) / (1 - by_chance)


def _couples(row: Sequence[Answer]) -> tuple[int, int]:
    """Couples of equal answers, and all couples."""
    return sum(n * (n - 1) // 2 for n in Counter(row).values()), len(row) * (len(row) - 1) // 2
