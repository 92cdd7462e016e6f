"""What training derives from a dataset and the model's configuration alone: the same for every trial of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from include.families.compliance_qa.bm25 import Bm25Index
from include.families.compliance_qa.config import ModelConfig
from include.families.compliance_qa.corpus import Corpus, Questions, read_corpus, read_questions
from include.families.compliance_qa.embedding import Embeddings, embed, passage_embeddings
from include.families.compliance_qa.encoder import TOKENIZER, load_encoder, locate
from include.families.compliance_qa.fusion import fuse, scaled
from include.families.compliance_qa.metrics import rank
from include.families.compliance_qa.tokens import Ids, load_tokenizer, token_ids
from include.families.contract import DatasetView

_MINING_ALPHA = 0.5
_ROWS = 256

_latest: dict[tuple[str, str], Prepared] = {}


@dataclass(frozen=True)
class Prepared:
    """The dataset, tokenised and indexed. Costly parts are made when they are first asked for."""

    config: ModelConfig
    corpus: Corpus
    train: Questions
    validation: Questions

    @cached_property
    def indexed(self) -> list[str]:
        return self.corpus.indexed(self.config.headings)

    @cached_property
    def bm25(self) -> Bm25Index:
        return Bm25Index.build(self.indexed, self.config.bm25)

    @cached_property
    def train_ids(self) -> Ids:
        return self._ids(self.train.texts, self.config.max_question_tokens)

    @cached_property
    def validation_ids(self) -> Ids:
        return self._ids(self.validation.texts, self.config.max_question_tokens)

    @cached_property
    def passage_ids(self) -> Ids:
        return self._ids(self.indexed, self.config.max_passage_tokens)

    @cached_property
    def train_passage_ids(self) -> Ids:
        """Passages as they are cut while they learn."""
        return self._ids(self.indexed, min(self.config.max_train_tokens, self.config.max_passage_tokens))

    @cached_property
    def untrained_passages(self) -> Embeddings:
        """Embeddings of all passages by the untrained encoder."""
        return passage_embeddings(self.config, self.indexed)

    @cached_property
    def validation_lexical(self) -> NDArray[np.float32]:
        """Scaled BM25 scores, shape (validation questions, passages)."""
        return scaled(self.bm25.scores(self.validation.texts))

    def mined(self, pool: int) -> NDArray[np.int64]:
        """The `pool` best wrong passages per training question, best first: by BM25 and the untrained encoder together.

        Where a corpus has fewer wrong passages, they are repeated. Shape (training questions, pool).
        """
        if pool not in self._mined:
            self._mined[pool] = self._mine(pool)
        return self._mined[pool]

    def validation_pool(self) -> NDArray[np.int64]:
        """Numbers of the passages that validation ranks where embedding all of them at every epoch costs too much."""
        if "pool" not in self._memo:
            dense = embed(load_encoder(self.config), self.validation_ids) @ self.untrained_passages.T
            k = self.config.validation_pool
            chosen = [rank(self.validation_lexical, k).ravel(), rank(dense, k).ravel()]
            chosen.append(np.array([number for gold in self.validation.gold for number in gold], dtype=np.int64))
            self._memo["pool"] = np.unique(np.concatenate(chosen))
        return self._memo["pool"]

    @cached_property
    def _memo(self) -> dict[str, NDArray[np.int64]]:
        return {}

    @cached_property
    def _mined(self) -> dict[int, NDArray[np.int64]]:
        return {}

    def _mine(self, pool: int) -> NDArray[np.int64]:
        encoder = load_encoder(self.config)
        questions = embed(encoder, self.train_ids)
        longest = max(len(gold) for gold in self.train.gold)
        out = np.empty((len(self.train), pool), dtype=np.int64)
        for start in range(0, len(self.train), _ROWS):
            lexical = scaled(self.bm25.scores(self.train.texts[start : start + _ROWS]))
            dense = questions[start : start + _ROWS] @ self.untrained_passages.T
            for offset, ranked in enumerate(rank(fuse(lexical, dense, _MINING_ALPHA), pool + longest)):
                wrong = ranked[~np.isin(ranked, self.train.gold[start + offset])]
                out[start + offset] = np.resize(wrong, pool) if len(wrong) else -1
        return out

    def _ids(self, texts: Sequence[str], max_tokens: int) -> Ids:
        tokenizer = load_tokenizer(locate(self.config.encoder, self.config.sha256) / TOKENIZER, max_tokens)
        return token_ids(tokenizer, texts)


def prepare(config: ModelConfig, dataset: DatasetView) -> Prepared:
    """The prepared dataset; that of the last dataset and configuration is kept, for the next trial of a sweep."""
    key = (dataset.digest, config.model_dump_json())
    if key not in _latest:
        corpus = read_corpus(dataset)
        made = Prepared(
            config, corpus, read_questions(dataset, "train", corpus), read_questions(dataset, "validation", corpus)
        )
        _latest.clear()
        _latest[key] = made
    return _latest[key]
