"""What a model keeps beside its parameters, such as the running means of a batch norm, over several processes."""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class SharedBuffers(Callback):
    """Gives all processes the first one's buffers before each validation.

    Each gathers them from batches of its own, and only the first one's are saved: a process that is resumed would
    validate with others than it had, and stop early, or not, where it did not before. (DDP can share them at every
    step, which costs more and is needed for nothing else.)
    """

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        saved = pl_module.state_dict().keys()
        for name, buffer in pl_module.named_buffers():
            if name in saved:
                torch.distributed.broadcast(buffer, src=0)
