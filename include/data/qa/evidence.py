"""Turns pairs into numbers, in three groups that look at different evidence.

| group | looks at |
|---|---|
| `words` | how much of the answer stands in the cited passage, and whether another passage fits it better |
| `facts` | numbers, units, defined terms, quotations and negations of the answer against the passage |
| `form` | whether the answer has the form that the question asks for, and is whole |

A group is a validator: it sees nothing of what the others see. Embeddings of the encoder that ships would be a fourth
one; measured on the sample, they cost ten times as much as all of this and told no further corrupted pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from include.data.qa.facts import claims
from include.data.qa.pairs import Pair
from include.data.qa.text import (
    measures,
    names,
    negations,
    number_contexts,
    numbers,
    polarities,
    quotes,
    sentences,
    stems,
    words,
)

Matrix = NDArray[np.float64]
_ROWS = 256

_ASKS_YES_NO = frozenset(
    (
        *("is", "are", "was", "were", "do", "does", "did", "can", "could", "may", "might", "must", "shall", "should"),
        *("will", "would", "has", "have", "had", "need", "am"),
    )
)
_ASKS_NUMBER = frozenset(("many", "much", "long", "soon", "often", "far", "old", "large", "big", "when", "percentage"))


class Corpus:
    """The passages that pairs may cite: how rare each word is, and which passage a text fits best."""

    def __init__(self, passages: Mapping[str, str]) -> None:
        self.keys = list(passages)
        self.position = {key: number for number, key in enumerate(self.keys)}
        self._vectorizer = TfidfVectorizer(analyzer=_stems, sublinear_tf=True, norm="l2")
        self._vectors = self._vectorizer.fit_transform(passages.values())

    def weight(self, stem: str) -> float:
        """Inverse document frequency of a stem; that of a word of no passage where it is in none."""
        number = self._vectorizer.vocabulary_.get(stem)
        return float(self._vectorizer.idf_[number]) if number is not None else self._rarest

    @property
    def _rarest(self) -> float:
        return float(np.log((1 + len(self.keys)) / 1) + 1)

    def lexical(self, texts: Sequence[str]) -> csr_matrix:
        """Cosine of texts to every passage, shape (n, passages)."""
        return self._vectorizer.transform(texts) @ self._vectors.T


def measure(pairs: Sequence[Pair], corpus: Corpus) -> dict[str, Matrix]:
    """Group -> its numbers for every pair, shape (n, width)."""
    parts = [pairs[start : start + _ROWS] for start in range(0, len(pairs), _ROWS)]
    return {name: np.concatenate([of(part, corpus) for part in parts]) for name, of in GROUPS.items()}


def _words(pairs: Sequence[Pair], corpus: Corpus) -> Matrix:
    answers = corpus.lexical([pair.answer for pair in pairs]).toarray()
    whole = corpus.lexical([f"{pair.question} {pair.answer}" for pair in pairs]).toarray()
    rows = []
    for number, pair in enumerate(pairs):
        question, answer, evidence = set(_stems(pair.question)), set(_stems(pair.answer)), set(_stems(pair.evidence))
        rows.append(
            [
                _share(answer, evidence, corpus),
                _share(answer, evidence | question, corpus),
                _share(question, evidence, corpus),
                _share(question, answer, corpus),
                max((_share(answer, set(_stems(part)), corpus) for part in _sentences(pair.evidence)), default=0.0),
                *_standing(answers[number], corpus.position.get(pair.passage)),
                *_standing(whole[number], corpus.position.get(pair.passage)),
            ]
        )
    return np.array(rows)


def _facts(pairs: Sequence[Pair], corpus: Corpus) -> Matrix:
    rows = []
    for pair in pairs:
        given = _numbers(pair.evidence) | _numbers(pair.question)
        said = set(numbers(pair.answer))
        units = measures(pair.answer)
        terms = set(names(pair.answer))
        backing = f"{pair.evidence} {pair.question}".lower()
        quoted = quotes(pair.answer)
        best = max(_sentences(pair.evidence), key=lambda part: _overlap(pair.answer, part), default="")
        denied, denied_there = negations(pair.answer), negations(best)
        opening = words(pair.answer)[:1]
        rows.append(
            [
                len(said),
                len(said - given),
                len(said - given) / len(said) if said else 0.0,
                len(units - _measures(pair.evidence) - measures(pair.question)),
                len(terms),
                sum(term.lower() not in backing for term in terms),
                sum(quote.lower() not in backing for quote in quoted),
                denied,
                denied - denied_there,
                float(denied % 2 != denied_there % 2),
                denied - negations(pair.question),
                float(opening == ["yes"]) - float(opening == ["no"]),
                _overlap(pair.answer, best),
                _contradicted(pair),
                _contradicted(replace(pair, evidence=best)),
                sum(not claim.supported for claim in claims(pair)),
                *_in_context(pair),
            ]
        )
    return np.array(rows, dtype=float)


def _contradicted(pair: Pair) -> float:
    """How many words the answer affirms and the passage only denies, or the other way round."""
    there = _polarities(pair.evidence)
    return sum(
        len(signs) == 1 and there.get(stem) == {not next(iter(signs))}
        for stem, signs in _polarities(pair.answer).items()
    )


def _in_context(pair: Pair) -> list[float]:
    """How well the surroundings of the answer's numbers agree with those of the same numbers in the passage."""
    there = number_contexts(pair.evidence)
    scores = []
    for value, around in number_contexts(pair.answer):
        same = [len(around & context) / (1 + len(around)) for number, context in there if number == value]
        scores.append(max(same, default=-1.0))
    return [min(scores, default=1.0), sum(scores) / len(scores) if scores else 1.0]


def _form(pairs: Sequence[Pair], corpus: Corpus) -> Matrix:
    rows = []
    for pair in pairs:
        asked = words(sentences(pair.question)[-1]) if sentences(pair.question) else []
        said, opening = words(pair.answer), words(pair.answer)[:1]
        yes_no = bool(asked) and asked[0] in _ASKS_YES_NO
        wants_number = bool(set(asked[:4]) & _ASKS_NUMBER) and asked[:1] in (["how"], ["when"], ["what"])
        rows.append(
            [
                float(yes_no),
                float(opening == ["yes"]),
                float(opening == ["no"]),
                float(yes_no and opening not in (["yes"], ["no"])),
                float(not yes_no and bool(opening) and opening[0] in {"yes", "no"}),
                float(wants_number and not numbers(pair.answer)),
                float(pair.answer.rstrip()[-1:] in ".!?\"')"),
                float(pair.answer[:1].isupper() or pair.answer[:1].isdigit()),
                len(said),
                len(said) / max(1, len(words(pair.question))),
                float(" or " in f" {pair.question.lower()} "),
            ]
        )
    return np.array(rows, dtype=float)


def _standing(scores: NDArray[np.floating], place: int | None) -> list[float]:
    """A passage's score, its lead over the best other one, and 1 / its rank; nothing at all for an unknown passage."""
    if place is None:
        return [0.0, -float(scores.max(initial=0.0)), 0.0]
    own = float(scores[place])
    others = np.delete(scores, place)
    best = float(others.max(initial=0.0))
    return [own, own - best, 1.0 / (1 + int((others > own).sum()))]


def _share(part: set[str], whole: set[str], corpus: Corpus) -> float:
    """How much of `part` is in `whole`, rare words counting more.

    The order of a set differs from process to process; `fsum` gives one sum for any order, and so the judges one model.
    """
    total = math.fsum(corpus.weight(stem) for stem in part)
    return math.fsum(corpus.weight(stem) for stem in part & whole) / total if total else 0.0


def _overlap(answer: str, sentence: str) -> float:
    said, there = set(_stems(answer)), set(_stems(sentence))
    return len(said & there) / len(said) if said else 0.0


@lru_cache(maxsize=65_536)
def _stems(text: str) -> tuple[str, ...]:
    return tuple(stems(text))


@lru_cache(maxsize=16_384)
def _sentences(text: str) -> tuple[str, ...]:
    return tuple(sentences(text))


@lru_cache(maxsize=65_536)
def _numbers(text: str) -> frozenset[float]:
    return frozenset(numbers(text))


@lru_cache(maxsize=16_384)
def _polarities(text: str) -> dict[str, set[bool]]:
    return polarities(text)


@lru_cache(maxsize=16_384)
def _measures(text: str) -> frozenset[tuple[float, str]]:
    return frozenset(measures(text))


#: Name of a validator -> the numbers that it looks at.
GROUPS: dict[str, Callable[[Sequence[Pair], Corpus], Matrix]] = {"facts": _facts, "form": _form, "words": _words}
