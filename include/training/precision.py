"""The precision that the spec asks for, as arguments of Lightning's trainer."""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins import Precision as LightningPrecision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch.optim import Optimizer

from include.spec.training import Precision, TrainerSpec


def precision(trainer: TrainerSpec) -> dict[str, Any]:
    """The arguments of Lightning's trainer that choose the precision."""
    if trainer.precision is Precision.FP32:
        return {"precision": trainer.precision.value}
    return {"plugins": [Mixed("16-mixed" if trainer.precision is Precision.FP16 else "bf16-mixed", _device(trainer))]}


def _device(trainer: TrainerSpec) -> str:
    if trainer.accelerator == "cpu":
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


class Mixed(MixedPrecision):
    """Mixed precision as it was asked for: Lightning would compute in bfloat16 where a processor is to use float16.

    It would also refuse to clip the gradients of fused optimizers, which only matters where they are scaled.
    """

    def clip_gradients(
        self,
        optimizer: Optimizer,
        clip_val: int | float = 0.0,
        gradient_clip_algorithm: GradClipAlgorithmType = GradClipAlgorithmType.NORM,
    ) -> None:
        if self.scaler is not None:
            super().clip_gradients(optimizer, clip_val, gradient_clip_algorithm)
        else:
            LightningPrecision.clip_gradients(self, optimizer, clip_val, gradient_clip_algorithm)
