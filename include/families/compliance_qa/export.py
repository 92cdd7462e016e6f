"""Writes model packages: the encoder as ONNX, proven equal to the trained one, the passages, and what fuses both sides.

The same weights and the same dataset give the same bytes, so a step that is done again publishes the same digest.
"""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from include.errors import WindtunnelError
from include.families.compliance_qa.bm25 import FOLDER
from include.families.compliance_qa.corpus import Corpus
from include.families.compliance_qa.embedding import embed
from include.families.compliance_qa.encoder import TOKENIZER as ENCODER_TOKENIZER
from include.families.compliance_qa.encoder import Encoder, load_encoder, locate
from include.families.compliance_qa.fusion import choose_alpha, fit_confidence, fuse
from include.families.compliance_qa.metrics import hit_at_k, rank
from include.families.compliance_qa.prepared import Prepared
from include.families.compliance_qa.quantise import difference, quantise
from include.families.compliance_qa.runtime import (
    EMBEDDINGS,
    ENCODER,
    PASSAGES,
    TOKENIZER,
    OnnxEncoder,
    PackageConfig,
    RetrievalRuntime,
    write_config,
)

OPSET = 17
MAX_DIFFERENCE = 1e-4
_PREFIX = "encoder."  # of the encoder's parameters among the LightningModule's


class ParityError(WindtunnelError):
    """The exported model does not answer like the trained one."""


def export_trained(prepared: Prepared, weights: Path | None, folder: Path) -> dict[str, Any]:
    """A package of the dual encoder, fused with BM25.

    Args:
        weights: What the training learned (safetensors); None exports the encoder as it came.

    Raises:
        ParityError: The ONNX model differs from the torch model.
    """
    encoder = load_encoder(prepared.config).eval()
    if weights is not None:
        _load(encoder, weights)
    questions = embed(encoder, prepared.validation_ids)
    passages = _passages(prepared, encoder, trained=weights is not None)
    alpha, metrics = choose_alpha(prepared.validation_lexical, questions @ passages.T, prepared.validation.gold)
    fused = fuse(prepared.validation_lexical, questions @ passages.T, alpha)
    np.save(folder / EMBEDDINGS, passages, allow_pickle=False)
    export_onnx(encoder, folder / ENCODER)
    shutil.copyfile(locate(prepared.config.encoder, prepared.config.sha256) / ENCODER_TOKENIZER, folder / TOKENIZER)
    _write_rest(prepared, fused, alpha, folder)
    facts = {**_parity(prepared, questions, fused, folder), "alpha": alpha, "validation": metrics, "opset": OPSET}
    if prepared.config.serve_precision == "int8":
        facts |= _eight_bits(prepared, passages, fused, folder)
    return facts


def export_bm25(prepared: Prepared, folder: Path) -> dict[str, Any]:
    """A package of BM25 alone."""
    _write_rest(prepared, prepared.validation_lexical, 1.0, folder)
    return {"alpha": 1.0}


def export_onnx(encoder: Encoder, path: Path) -> None:
    """Token ids and mask of any shape (n, tokens) -> embeddings (n, width)."""
    example = torch.ones((2, 8), dtype=torch.int64)
    axes = {0: "texts", 1: "tokens"}
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter built on torch.export is five times slower and its graph keeps stack traces with local paths.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            encoder,
            (example, example),
            str(path),
            input_names=["ids", "mask"],
            output_names=["embedding"],
            dynamic_axes={"ids": axes, "mask": axes, "embedding": {0: "texts"}},
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(str(path))


def _load(encoder: Encoder, weights: Path) -> None:
    state = {name.removeprefix(_PREFIX): value for name, value in load_file(weights).items()}
    # All that learns, and more where training started from weights in which more had learned.
    wrong = (set(encoder.learning()) - set(state)) | (set(state) - set(encoder.state_dict()))
    if wrong:
        odd = ", ".join(sorted(wrong)[:3])
        raise ParityError(
            f"the weights do not fit the encoder: {odd}",
            where=str(weights),
            hint="was `model` changed since the training?",
        )
    encoder.load_state_dict(state, strict=False)


def _passages(prepared: Prepared, encoder: Encoder, *, trained: bool) -> NDArray[np.float32]:
    """Embeddings of all passages, by the trained encoder where passages learn."""
    if not trained or prepared.config.passages == "fixed":
        return prepared.untrained_passages
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bfloat16 = prepared.config.encode_precision == "bfloat16"
    made = embed(encoder.to(device), prepared.passage_ids, bfloat16=bfloat16, device=device)
    encoder.to("cpu")
    return made


def _eight_bits(
    prepared: Prepared, passages: NDArray[np.float32], fused: NDArray[np.float32], folder: Path
) -> dict[str, Any]:
    """Puts the encoder in 8 bits in the place of the package's, unless the validation questions lose too much by it.

    Args:
        fused: Scores of the validation questions by the full encoder.

    Returns:
        `precision` of the package's encoder, and `int8_map_at_10_change` (estimate, low, high, n). Where it is int8,
        `alpha` and `validation` are those of it.
    """
    small = folder / f"int8-{ENCODER}"
    quantise(folder / ENCODER, small)
    questions = OnnxEncoder(small, folder / TOKENIZER, prepared.config.max_question_tokens).embed(
        prepared.validation.texts
    )
    dense, gold = questions @ passages.T, prepared.validation.gold
    alpha, metrics = choose_alpha(prepared.validation_lexical, dense, gold)
    scores = fuse(prepared.validation_lexical, dense, alpha)
    change = difference(fused, scores, gold)
    facts = {"int8_map_at_10_change": change.to_json()}
    if change.low < -prepared.config.int8_max_drop:
        small.unlink()
        return {"precision": "float32", **facts}
    small.replace(folder / ENCODER)
    _write_rest(prepared, scores, alpha, folder)
    return {"precision": "int8", "alpha": alpha, "validation": metrics, **facts}


def _write_rest(prepared: Prepared, fused: NDArray[np.float32], alpha: float, folder: Path) -> None:
    """Passages, BM25 index, and the configuration with its confidence weights."""
    _write_passages(prepared.corpus, folder / PASSAGES)
    prepared.bm25.save(folder / FOLDER)
    best = rank(fused)
    hits = np.array([hit_at_k(row, gold, 1) for row, gold in zip(best.tolist(), prepared.validation.gold, strict=True)])
    weights = fit_confidence(np.take_along_axis(fused, best, axis=1), hits)
    write_config(
        folder, PackageConfig(model=prepared.config, alpha=alpha, confidence=[round(weight, 6) for weight in weights])
    )


def _write_passages(corpus: Corpus, path: Path) -> None:
    columns = {"passage_key": corpus.keys, "heading": corpus.headings, "text": corpus.texts}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    pq.write_table(table, path, compression="zstd")


def _parity(
    prepared: Prepared, questions: NDArray[np.float32], fused: NDArray[np.float32], folder: Path
) -> dict[str, Any]:
    """Holds the package, loaded as it will be served, against the torch model on the validation questions."""
    runtime = RetrievalRuntime(folder)
    served = runtime.embed(prepared.validation.texts)
    difference = float(np.abs(served - questions).max())
    same = rank(runtime.scores(prepared.validation.texts), 1)[:, 0] == rank(fused, 1)[:, 0]
    facts = {"parity_max_abs_difference": difference, "parity_same_top_1": float(same.mean()), "parity_n": len(same)}
    if difference > MAX_DIFFERENCE or not same.all():
        raise ParityError(
            f"ONNX differs from torch: embeddings by {difference:.2g} (allowed {MAX_DIFFERENCE:g}), "
            f"best passage for {int((~same).sum())} of {len(same)} questions",
            where=str(folder / ENCODER),
            hint="the package was not published; check the versions of torch, onnx and onnxruntime",
            **facts,
        )
    return facts
