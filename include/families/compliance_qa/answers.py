"""Answers are quotations: the sentences of the best passage that say most about the question.

Nothing is generated, so an answer cannot say what no rule says, and its citation is where it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

_SENTENCE_END = re.compile(r"(?<=[.;:!?])\s+(?=[\"'(A-Z0-9])")
_MAX_SENTENCES = 3
_MAX_CHARACTERS = 600

Words = Callable[[Sequence[str]], list[list[str]]]


def sentences(text: str) -> list[str]:
    """The sentences and list items of a passage, in order; a text without an end mark is one sentence."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def sentence_words(text: str, words: Words) -> list[tuple[str, frozenset[str]]]:
    """Each sentence of a passage, in order, with its stemmed words.

    Args:
        words: Stemmed words of texts, as the lexical index splits them.
    """
    parts = sentences(text)
    return list(zip(parts, map(frozenset, words(parts) if parts else ()), strict=True))


def quote(asked: Iterable[str], passage: Sequence[tuple[str, frozenset[str]]], rarity: Mapping[str, float]) -> str:
    """The at most three sentences that share the rarest words with the question, in the order of the passage.

    Args:
        asked: The question's stemmed words.
        passage: What `sentence_words` made of it.
        rarity: Weight of a word; unknown words weigh nothing.
    """
    parts = [sentence for sentence, _ in passage]
    if len(parts) > 1:
        wanted = set(asked)
        weights = [math.fsum(rarity.get(word, 0.0) for word in wanted & said) for _, said in passage]
        best = sorted(range(len(parts)), key=lambda i: (-weights[i], i))[:_MAX_SENTENCES]
        kept = [i for i in best if weights[i] > 0] or [0, 1]
        parts = [parts[i] for i in sorted(kept)]
    answer = " ".join(parts)
    return answer if len(answer) <= _MAX_CHARACTERS else f"{answer[: _MAX_CHARACTERS - 4].rsplit(' ', 1)[0]} ..."


def word_rarity(document_counts: Mapping[str, int], documents: int) -> dict[str, float]:
    """Inverse document frequency, log(1 + documents / count)."""
    return {word: math.log(1.0 + documents / count) for word, count in document_counts.items() if count}


def coverage(answer: Sequence[str], passage: Sequence[str]) -> float:
    """Share of the answer's distinct words that the passage has (ROUGE-1 recall, Lin 2004); 1 where it has none."""
    wanted = set(answer)
    return len(wanted & set(passage)) / len(wanted) if wanted else 1.0
