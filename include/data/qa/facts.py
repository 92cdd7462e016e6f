"""What an answer claims that can be looked up, and whether the cited passage bears it out. Pure.

Numbers and quotations are claims. A number is borne out where the passage or the question has it, or where it is
the sum, difference, product or share of numbers that they have: an answer may do arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

from include.data.qa.pairs import Pair
from include.data.qa.text import cardinals, numbers, quotes

_SMALLEST = 4.0  # with smaller numbers nearly everything is a sum or product of something
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Claim:
    """One claim of an answer."""

    text: str
    supported: bool


def claims(pair: Pair) -> list[Claim]:
    """The claims of a pair's answer, in order, each once."""
    given = frozenset(numbers(f"{pair.evidence} {pair.question}"))
    backing = " ".join(f"{pair.evidence} {pair.question}".lower().split())
    found = [Claim(f"the number {value:g}", is_given(value, given)) for value in dict.fromkeys(cardinals(pair.answer))]
    found += [
        Claim(f"the quotation {text!r}", " ".join(text.lower().split()) in backing) for text in quotes(pair.answer)
    ]
    return found


def accuracy(found: list[Claim]) -> float:
    """Share of the claims that are borne out; 1 where there is none."""
    return sum(claim.supported for claim in found) / len(found) if found else 1.0


def is_given(value: float, given: frozenset[float]) -> bool:
    """Whether a number is among the given ones or follows from two of them."""
    large = [number for number in given if number >= _SMALLEST]
    shares = [number for number in given if 0 < number < 1]
    made = [a + b for a in large for b in large] + [a - b for a in large for b in large]
    made += [a * b for a in large for b in large] + [a * b / 100 for a in large for b in large]
    made += [a * share for a in large for share in shares] + [a * (1 + share) for a in large for share in shares]
    return value in given or any(abs(value - other) < _TOLERANCE for other in made)
