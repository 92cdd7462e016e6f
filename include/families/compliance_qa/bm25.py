"""The lexical side: BM25 over the passages, on `bm25s` with the English Snowball stemmer.

The index is saved in bm25s' own files (npy and JSON) and is the same object while training and while serving.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.families.compliance_qa.config import Bm25Config

FOLDER = "bm25"


def _library() -> Any:
    """bm25s, kept from logging every call: it gives itself a handler and the level DEBUG."""
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    return bm25s


class Bm25Index:
    """BM25 scores of every passage for a question. Thread-safe."""

    def __init__(self, index: Any, config: Bm25Config) -> None:
        self._index = index
        self._stopwords: Any = [] if config.stopwords == "none" else config.stopwords
        self._local = threading.local()  # a stemmer object must not be shared by threads

    @classmethod
    def build(cls, texts: Sequence[str], config: Bm25Config) -> Bm25Index:
        """An index over `texts`, in their order."""
        bm25s = _library()
        made = cls(bm25s.BM25(k1=config.k1, b=config.b, method=config.method), config)
        tokens = made.words(texts)
        # Ids in order of first appearance, so that equal texts give equal files.
        vocabulary: dict[str, int] = {}
        ids = [[vocabulary.setdefault(word, len(vocabulary)) for word in text] for text in tokens]
        vocabulary.setdefault("", len(vocabulary))  # bm25s wants the empty word, and a corpus without words is legal
        made._index.index((ids, vocabulary), show_progress=False)
        return made

    def save(self, folder: Path) -> None:
        """Writes the index's files into `folder`."""
        self._index.save(str(folder), show_progress=False)

    @classmethod
    def load(cls, folder: Path, config: Bm25Config) -> Bm25Index:
        """The index that `save` wrote."""
        bm25s = _library()
        return cls(bm25s.BM25.load(str(folder), load_corpus=False, show_progress=False), config)

    def scores(self, questions: Sequence[str]) -> NDArray[np.float32]:
        """Raw BM25 scores, shape (questions, passages)."""
        return self.scores_of_words(self.words(questions))

    def scores_of_words(self, questions: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """As `scores`, of questions that `words` has split."""
        out = np.zeros((len(questions), self.size), dtype=np.float32)
        for row, words in enumerate(questions):
            known = [word for word in words if word in self._index.vocab_dict]
            if known:
                out[row] = self._index.get_scores(known)
        return out

    def word_scores(self, words: Sequence[str], passage: int) -> dict[str, float]:
        """What each word of a question adds to the raw score of one passage; words that add nothing are left out."""
        index, found = self._index.scores, dict[str, float]()
        for word in words:
            number = self._index.vocab_dict.get(word)
            if number is None or number + 1 >= len(index["indptr"]):
                continue
            begin, end = index["indptr"][number], index["indptr"][number + 1]
            at = np.flatnonzero(index["indices"][begin:end] == passage)
            if at.size:
                found[word] = found.get(word, 0.0) + float(index["data"][begin + at[0]])
        return found

    @property
    def size(self) -> int:
        """Number of passages."""
        return int(self._index.scores["num_docs"])

    def document_counts(self) -> dict[str, int]:
        """Word -> number of passages that have it."""
        ends = self._index.scores["indptr"]
        return {
            word: int(ends[number + 1] - ends[number])
            for word, number in self._index.vocab_dict.items()
            if number + 1 < len(ends)
        }

    def words(self, texts: Sequence[str]) -> list[list[str]]:
        """Stemmed words of each text, stop words left out."""
        return [
            list(words)
            for words in _library().tokenize(
                list(texts), stopwords=self._stopwords, stemmer=self._stemmer(), return_ids=False, show_progress=False
            )
        ]

    def _stemmer(self) -> Any:
        if not hasattr(self._local, "stemmer"):
            import Stemmer

            self._local.stemmer = Stemmer.Stemmer("english")
        return self._local.stemmer
