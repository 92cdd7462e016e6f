"""Makes bad pairs out of good ones, in the ways in which pairs go wrong in practice. Deterministic.

| kind | what is wrong |
|---|---|
| `other_answer` | the answer of a question about something else |
| `near_answer` | the answer of another question about the same document |
| `number` | a number in the answer is another one |
| `negation` | the answer says the opposite |
| `truncated` | the answer breaks off |
| `wrong_passage` | another passage of the same document is cited |
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from include.data.qa.pairs import Pair

_DIGITS = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
_FLIPS = (
    (re.compile(r"^Yes\b"), "No"),
    (re.compile(r"^No\b"), "Yes"),
    (re.compile(r"\b(must|may|shall|can|should|will|is|are|does|do|need) not\b"), r"\1"),
    (re.compile(r"\bcannot\b"), "can"),
    (re.compile(r"\bneed not\b"), "must"),
    (re.compile(r"\b(must|may|shall|should|will|can|is|are)\b(?! not)"), r"\1 not"),
)


@dataclass(frozen=True)
class Corrupted:
    """A bad pair and how it became one."""

    kind: str
    pair: Pair


def corrupt(pairs: Sequence[Pair], seed: int, per_pair: int) -> list[Corrupted]:
    """Up to `per_pair` bad copies of every pair, of kinds drawn at random among those that its text allows."""
    others = _Others(pairs)
    found: list[Corrupted] = []
    for pair in pairs:
        draw = random.Random(f"{seed}\0{pair.key}")
        made = [(kind, how(pair, others, draw)) for kind, how in KINDS.items()]
        usable = [Corrupted(kind, copy) for kind, copy in made if copy is not None and copy != pair]
        found += draw.sample(usable, min(per_pair, len(usable)))
    return found


class _Others:
    """The other pairs, by document."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._all = list(pairs)
        self._by_group: defaultdict[str, list[Pair]] = defaultdict(list)
        for pair in pairs:
            self._by_group[pair.group].append(pair)

    def anywhere(self, pair: Pair, draw: random.Random) -> Pair | None:
        return self._draw([self._all[draw.randrange(len(self._all))] for _ in range(8)], pair, draw)

    def near(self, pair: Pair, draw: random.Random) -> Pair | None:
        return self._draw(self._by_group[pair.group], pair, draw)

    @staticmethod
    def _draw(pool: Sequence[Pair], pair: Pair, draw: random.Random) -> Pair | None:
        usable = [other for other in pool if other.passage != pair.passage and other.answer != pair.answer]
        return draw.choice(usable) if usable else None


def _other_answer(pair: Pair, others: _Others, draw: random.Random) -> Pair | None:
    other = others.anywhere(pair, draw)
    return replace(pair, answer=other.answer) if other else None


def _near_answer(pair: Pair, others: _Others, draw: random.Random) -> Pair | None:
    other = others.near(pair, draw)
    return replace(pair, answer=other.answer) if other else None


def _wrong_passage(pair: Pair, others: _Others, draw: random.Random) -> Pair | None:
    other = others.near(pair, draw)
    return replace(pair, evidence=other.evidence, passage=other.passage) if other else None


def _number(pair: Pair, others: _Others, draw: random.Random) -> Pair | None:
    found = list(_DIGITS.finditer(pair.answer))
    if not found:
        return None
    match = draw.choice(found)
    value = float(match[0].replace(",", ""))
    changed = draw.choice([value + 1, value + 2, value * 2, value * 3, value * 10, max(1.0, value - 1)])
    if changed == value:
        changed = value + 3
    text = f"{changed:,.0f}" if changed == int(changed) else f"{changed:g}"
    return replace(pair, answer=pair.answer[: match.start()] + text + pair.answer[match.end() :])


def _negation(pair: Pair, others: _Others, draw: random.Random) -> Pair | None:
    for pattern, text in _FLIPS:
        if pattern.search(pair.answer):
            return replace(pair, answer=pattern.sub(text, pair.answer, count=1))
    return None


def _truncated(pair: Pair, others: _Others, draw: random.Random) -> Pair | None:
    parts = pair.answer.split()
    if len(parts) < 6:
        return None
    return replace(pair, answer=" ".join(parts[: draw.randint(2, int(len(parts) * 0.7))]).rstrip(".,;:"))


KINDS: dict[str, Callable[[Pair, _Others, random.Random], Pair | None]] = {
    "other_answer": _other_answer,
    "near_answer": _near_answer,
    "number": _number,
    "negation": _negation,
    "truncated": _truncated,
    "wrong_passage": _wrong_passage,
}
