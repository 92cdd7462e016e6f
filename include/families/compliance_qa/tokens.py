"""Text to token ids, with the encoder's own tokenizer; the same while training and while serving."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = list[NDArray[np.int64]]


def load_tokenizer(path: Path, max_tokens: int) -> Any:
    """The tokenizer of a `tokenizer.json`: cuts at `max_tokens`, pads nothing."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def token_ids(tokenizer: Any, texts: Sequence[str]) -> Ids:
    """Token ids per text."""
    return [
        np.asarray(encoding.ids, dtype=np.int64)
        for encoding in tokenizer.encode_batch([printable(text) for text in texts])
    ]


def printable(text: str) -> str:
    """`text` with what cannot be UTF-8 (lone surrogates) replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def padded_ids(ids: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and mask of shape (n, longest)."""
    longest = max(len(row) for row in ids)
    tokens, mask = np.zeros((len(ids), longest), dtype=np.int64), np.zeros((len(ids), longest), dtype=np.int64)
    for row, values in enumerate(ids):
        tokens[row, : len(values)] = values
        mask[row, : len(values)] = 1
    return tokens, mask
