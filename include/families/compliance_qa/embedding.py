"""Embeds many texts in batches of like length, and remembers the embeddings of texts that never change.

The untrained encoder's passage embeddings are needed by every trial of the sweep, the final fit, the export and the
comparison with the model before training. They are kept in the object store under the digest of everything that they
depend on, so that they are computed once per corpus.
"""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

import io
import logging
import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from include.families.compliance_qa.config import ModelConfig
from include.families.compliance_qa.encoder import TOKENIZER, Encoder, load_encoder, locate
from include.families.compliance_qa.tokens import load_tokenizer, padded_ids, token_ids
from include.settings import Settings
from include.steps.fingerprint import fingerprint
from include.store.objects import ObjectNotFound, ObjectStore, StoreError, open_store

Embeddings = NDArray[np.float32]
Progress = Callable[[int, int], None]

_BATCH_TOKENS = 4096
_PART = 512  # passages: what a killed process loses, and what two processes may both compute
_FORMAT = 2  # raise it when the computation changes

log = logging.getLogger(__name__)


def batches_by_length(lengths: Sequence[int], max_tokens: int = _BATCH_TOKENS) -> Iterator[list[int]]:
    """Positions in batches of like length, each of at most `max_tokens` with padding (a single text may be longer)."""
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and lengths[position] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def padded(ids: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Ids and mask of shape (n, longest), int64."""
    tokens, mask = padded_ids(ids)
    return torch.from_numpy(tokens), torch.from_numpy(mask)


@torch.no_grad()
def embed(
    encoder: Encoder,
    ids: Sequence[NDArray[np.int64]],
    *,
    bfloat16: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Embeddings:
    """Embeddings of tokenised texts, shape (n, width)."""
    out = np.empty((len(ids), encoder.width), dtype=np.float32)
    was_training, done = encoder.training, 0
    encoder.eval()
    for batch in batches_by_length([len(row) for row in ids]):
        tokens, mask = padded([ids[i] for i in batch])
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16):
            out[batch] = encoder(tokens.to(device), mask.to(device)).float().cpu().numpy()
        done += len(batch)
        if progress:
            progress(done, len(ids))
    encoder.train(was_training)
    return out


def passage_embeddings(config: ModelConfig, texts: Sequence[str], progress: Progress | None = None) -> Embeddings:
    """The untrained encoder's embeddings of `texts`, from the object store where they were computed before.

    The texts are computed and kept in parts. Each process takes the parts in an order of its own and skips those that
    another one has written by then, so that workers that start together share the work, and a killed one leaves what
    it did.
    """
    store = open_store(Settings.from_env().store_url)
    tokenizer = load_tokenizer(locate(config.encoder, config.sha256) / TOKENIZER, config.max_passage_tokens)
    ids = token_ids(tokenizer, texts)
    by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    parts = [by_length[start : start + _PART] for start in range(0, len(ids), _PART)]
    out: Embeddings | None = None
    encoder: Encoder | None = None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for done, number in enumerate(random.Random(os.getpid()).sample(range(len(parts)), len(parts))):
        part = parts[number]
        key = _key(config, [texts[i] for i in part])
        rows = _kept(store, key, len(part))
        if rows is None:
            encoder = encoder or load_encoder(config).to(device)
            bfloat16 = config.encode_precision == "bfloat16"
            rows = embed(encoder, [ids[i] for i in part], bfloat16=bfloat16, device=device)
            _keep(store, key, rows)
        out = np.empty((len(ids), rows.shape[1]), dtype=np.float32) if out is None else out
        out[part] = rows
        if progress:
            progress(min((done + 1) * _PART, len(ids)), len(ids))
    assert out is not None  # a dataset without passages is refused before
    return out


def _kept(store: ObjectStore, key: str, rows: int) -> Embeddings | None:
    try:
        found: Any = np.load(io.BytesIO(store.get(key)), allow_pickle=False)
    except ObjectNotFound:
        return None
    except (ValueError, EOFError) as error:
        log.warning("%s cannot be read (%s): embedding its passages again", key, error)
        return None
    if found.ndim == 2 and found.shape[0] == rows and found.dtype == np.float32:
        return np.asarray(found)
    log.warning("%s has shape %s for %d passages: embedding them again", key, found.shape, rows)
    return None


def _keep(store: ObjectStore, key: str, rows: Embeddings) -> None:
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    try:
        store.put(key, buffer.getvalue())
    except StoreError as error:  # a cache that cannot be written costs time, and must not cost the training
        log.warning("could not keep the passage embeddings: %s", error)


def _key(config: ModelConfig, texts: Sequence[str]) -> str:
    digest = fingerprint(
        format=_FORMAT,
        weights=config.sha256,
        max_tokens=config.max_passage_tokens,
        precision=config.encode_precision,
        texts=list(texts),
    )
    return f"cache/compliance_qa/embeddings/{digest[:40]}.npy"
