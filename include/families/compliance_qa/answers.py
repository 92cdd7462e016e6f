"""Answers are quotations: the sentences of the best passage that say most about the question.

Nothing is generated, so an answer cannot say what no rule says, and its citation is where it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

_SENTENCE_END = re.compile(r"(?<=[.;:!?])\s+(?=[\"'(A-Z0-9])")
_MAX_SENTENCES = 3
_MAX_CHARACTERS = 600

Words = Callable[[Sequence[str]], list[list[str]]]


def sentences(text: str) -> list[str]:
    """The sentences and list items of a passage, in order; a text without an end mark is one sentence."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def quote(question: str, text: str, words: Words, rarity: Mapping[str, float]) -> str:
    """The at most three sentences that share the rarest words with the question, in the order of the passage.

    Args:
        words: Stemmed words of texts, as the lexical index splits them.
        rarity: Weight of a word; unknown words weigh nothing.
    """
    parts = sentences(text)
    if len(parts) > 1:
        asked, *said = words([question, *parts])
        wanted = set(asked)
        weights = [sum(rarity.get(word, 0.0) for word in wanted & set(sentence)) for sentence in said]
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
