"""Answers questions from a model package: ONNX encoder, BM25 index and passage embeddings, without torch.

A package folder holds `config.json`, `passages.parquet`, `bm25/`, and, unless it is BM25 alone, `encoder.onnx`,
`tokenizer.json` and `embeddings.npy` (passages in the order of the parquet file).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from include.errors import DataError, WindtunnelError
from include.families.compliance_qa.answers import quote, sentence_words, word_rarity
from include.families.compliance_qa.bm25 import FOLDER, Bm25Index
from include.families.compliance_qa.config import ModelConfig
from include.families.compliance_qa.fusion import confidence, fuse, scaled
from include.families.compliance_qa.metrics import K, hit_at_k, rank, recall_at_k
from include.families.compliance_qa.tokens import load_tokenizer, padded_ids, printable, token_ids

CONFIG, PASSAGES, EMBEDDINGS, ENCODER, TOKENIZER = (
    "config.json",
    "passages.parquet",
    "embeddings.npy",
    "encoder.onnx",
    "tokenizer.json",
)
CITED = 3
_TERMS = 5
_QUOTED = 4096  # passages whose sentences are kept taken apart
_ENCODE_ROWS = 32

Scores = NDArray[np.float32]


class RuntimeFault(WindtunnelError):
    """The package's files do not belong together."""


class PackageConfig(BaseModel):
    """What `config.json` of a package holds.

    Attributes:
        alpha: Weight of BM25 in the fused score; 1 where there is no encoder.
        confidence: Weights of `fusion.confidence`, fitted on validation questions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    model: ModelConfig
    alpha: float
    confidence: list[float]

    @property
    def dense(self) -> bool:
        """Whether the package has an encoder."""
        return self.alpha < 1.0


class OnnxEncoder:
    """Embeds texts with onnxruntime. Thread-safe: a session may run in several threads at once."""

    def __init__(self, model: Path, tokenizer: Path, max_tokens: int, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._tokenizer = load_tokenizer(tokenizer, max_tokens)

    def embed(self, texts: Sequence[str]) -> Scores:
        """Embeddings of length 1, shape (n, width). `texts` must not be empty."""
        ids = token_ids(self._tokenizer, texts)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out: Scores | None = None
        for start in range(0, len(order), _ENCODE_ROWS):
            batch = order[start : start + _ENCODE_ROWS]
            tokens, mask = padded_ids([ids[i] for i in batch])
            rows = self._session.run(None, {"ids": tokens, "mask": mask})[0]
            out = np.empty((len(ids), rows.shape[1]), dtype=np.float32) if out is None else out
            out[batch] = rows
        assert out is not None  # there is at least one text
        return out


class RetrievalRuntime:
    """A loaded package; see `include.families.contract.ModelRuntime`.

    Raises:
        RuntimeFault: Files of the folder contradict each other.
    """

    inputs: Mapping[str, str] = {"question": "BYTES"}
    outputs: Mapping[str, str] = {"passage_ids": "BYTES", "scores": "FP32", "answer": "BYTES", "confidence": "FP32"}
    proxies = ("confidence",)

    def __init__(self, folder: Path) -> None:
        import pyarrow.parquet as pq

        self.config = PackageConfig.model_validate_json((folder / CONFIG).read_text(encoding="utf-8"))
        columns = pq.ParquetFile(folder / PASSAGES).read().to_pydict()  # `read_table` would import pandas
        self._keys: list[str] = columns["passage_key"]
        self._headings: list[str] = columns["heading"]
        self._texts: list[str] = columns["text"]
        self._number = {key: number for number, key in enumerate(self._keys)}
        self._bm25 = Bm25Index.load(folder / FOLDER, self.config.model.bm25)
        self._rarity = word_rarity(self._bm25.document_counts(), len(self._keys))
        # few passages answer most questions; no method of this object, which would keep it alive
        self._sentences = lru_cache(_QUOTED)(partial(sentence_words, words=self._bm25.words))
        self._encoder: OnnxEncoder | None = None
        self._embeddings: Scores | None = None
        if self.config.dense:
            self._encoder = OnnxEncoder(folder / ENCODER, folder / TOKENIZER, self.config.model.max_question_tokens)
            self._embeddings = np.load(folder / EMBEDDINGS, allow_pickle=False).astype(np.float32, copy=False)
        sizes = {len(self._keys), self._bm25.size} | (
            {len(self._embeddings)} if self._embeddings is not None else set()
        )
        if len(sizes) != 1 or not self._keys:
            raise RuntimeFault(f"passages, index and embeddings differ in number: {sorted(sizes)}", where=str(folder))

    def embed(self, texts: Sequence[str]) -> Scores:
        """Embeddings of questions, shape (n, width). Raises `RuntimeFault` where the package has no encoder."""
        if self._encoder is None:
            raise RuntimeFault("the package is BM25 alone: it has no encoder")
        return self._encoder.embed(texts)

    def scores(self, questions: Sequence[str]) -> Scores:
        """Fused scores of all passages, shape (n, passages)."""
        return self._fused(questions, scaled(self._bm25.scores(questions)))

    def _fused(self, questions: Sequence[str], lexical: Scores) -> Scores:
        if self._encoder is None or self._embeddings is None:
            return lexical
        return fuse(lexical, self._encoder.embed(questions) @ self._embeddings.T, self.config.alpha)

    def predict(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Ranks passages for each question and quotes the best one.

        Args:
            inputs: `question`: n texts.

        Returns:
            `passage_ids` and `scores` (n lists, best first), `answer` and `confidence` (n values), and `why` (n
            records; see `_why`).

        Raises:
            DataError: A question is not text, or there is none.
        """
        questions = [_text(value) for value in inputs.get("question", ())]
        if not questions:
            raise DataError("there is no question", where="question", hint="send at least one text")
        words = self._bm25.words(questions)
        raw = self._bm25.scores_of_words(words)
        lexical = scaled(raw)
        fused = self._fused(questions, lexical)
        best = rank(fused)
        top = np.take_along_axis(fused, best, axis=1)
        sure = confidence(top, self.config.confidence)
        return {
            "passage_ids": [[self._keys[number] for number in row] for row in best],
            "scores": [[round(float(score), 6) for score in row] for row in top],
            "answer": [
                quote(asked, self._sentences(self._texts[row[0]]), self._rarity)
                for asked, row in zip(words, best, strict=True)
            ],
            "confidence": [round(float(value), 6) for value in sure],
            "why": [
                self._why(words[row], raw[row], float(lexical[row, first]), float(fused[row, first]), int(first))
                for row, first in enumerate(best[:, 0])
            ],
        }

    def _why(self, words: Sequence[str], raw: Scores, lexical: float, score: float, passage: int) -> dict[str, Any]:
        """What the best passage's score is made of.

        Returns:
            `parts`: `words` and `meaning` (of the encoder), which add up to the score; `terms`: the stems that add most
            to `words`, with what they add.
        """
        alpha = self.config.alpha
        span = float(raw.max() - raw.min())
        shared = self._bm25.word_scores(words, passage)
        heaviest = sorted(shared.items(), key=lambda pair: (-pair[1], pair[0]))[:_TERMS]
        return {
            "parts": {"words": round(alpha * lexical, 6), "meaning": round(score - alpha * lexical, 6)},
            "terms": {word: round(alpha * value / span, 6) for word, value in heaviest if span},
        }

    def answer(self, outputs: Mapping[str, list[Any]], index: int) -> dict[str, Any]:
        """`answer`, `citations` (the best three passages), `passages` (keys), `score`, `confidence` and `why`."""
        keys, scores = outputs["passage_ids"][index], outputs["scores"][index]
        return {
            "answer": outputs["answer"][index],
            "citations": [self._citation(key, score) for key, score in list(zip(keys, scores, strict=True))[:CITED]],
            "passages": list(keys),
            "score": scores[0],
            "confidence": outputs["confidence"][index],
            "why": outputs["why"][index],
        }

    def label(self, record: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, float]:
        """`hit_at_1`, `hit_at_10` and `recall_at_10` of an answer record, given `{"citations": [passage keys]}`.

        Raises:
            DataError: The truth names no passage.
        """
        cited = truth.get("citations")
        if not isinstance(cited, list) or not cited or not all(isinstance(key, str) for key in cited):
            raise DataError(
                "the truth must name passages", where="truth.citations", hint='send {"citations": ["<passage key>"]}'
            )
        ranked = record["passages"]
        return {
            "hit_at_1": hit_at_k(ranked, cited, 1),
            "hit_at_10": hit_at_k(ranked, cited, K),
            "recall_at_10": recall_at_k(ranked, cited),
        }

    def words(self, texts: Sequence[str]) -> list[list[str]]:
        """Stemmed words, as the index splits them."""
        return self._bm25.words(texts)

    def passage_text(self, key: str) -> str:
        """Heading and text of a passage. Raises `KeyError`."""
        number = self._number[key]
        return f"{self._headings[number]}. {self._texts[number]}"

    def _citation(self, key: str, score: float) -> dict[str, Any]:
        number = self._number[key]
        return {"passage": key, "heading": self._headings[number], "text": self._texts[number], "score": score}


def write_config(folder: Path, config: PackageConfig) -> None:
    """Writes `config.json`, the same bytes for the same values."""
    (folder / CONFIG).write_text(
        json.dumps(config.model_dump(mode="json"), indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise DataError(f"a question must be text, not {type(value).__name__}", where="question")
    return printable(value)
