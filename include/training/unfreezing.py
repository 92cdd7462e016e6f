"""Unfreezing stage by stage, as the spec's `transfer.unfreeze` says.

Which stage it is is a pure function of the epochs and steps that are done: there is no state to save or to lose.

(Lightning's `BaseFinetuning` adds parameters to the optimizer when they are unfrozen and leaves them out of an existing
DDP wrapper, whose processes would then drift apart. Here the optimizer knows them from the start, and the wrapper is
made anew.)
"""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from include.spec.transfer import TransferSpec, UnfreezeStage
from include.training.freezing import matches, notes, rest_frozen_modules


class Unfreezing(Callback):
    """Unfreezes stage by stage, at the start of epochs and between optimizer steps; the same with and without DDP."""

    def __init__(self, transfer: TransferSpec) -> None:
        self._stages = transfer.unfreeze
        self._next_step = min((stage.after_steps for stage in self._stages if stage.after_steps), default=None)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """What learned at that point learns again before DDP looks at the parameters."""
        self._apply(pl_module, int(checkpoint["epoch"]), int(checkpoint["global_step"]))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """At the first batch of an epoch (Lightning leaves out `on_train_epoch_start` where it resumes), or a stage."""
        due = batch_idx == 0 or (self._next_step is not None and trainer.global_step >= self._next_step)
        if due and self._apply(pl_module, trainer.current_epoch, trainer.global_step):
            wrap_again(trainer)

    def _apply(self, module: LightningModule, epochs: int, steps: int) -> bool:
        """Whether more learns than before."""
        due = [stage for stage in self._stages if _is_due(stage, epochs, steps)]
        later = [stage.after_steps for stage in self._stages if stage.after_steps and stage.after_steps > steps]
        self._next_step = min(later, default=None)
        patterns = [pattern for stage in due for pattern in stage.parameters]
        waiting = notes(module).later
        new = [
            value
            for name, value in module.named_parameters()
            if name in waiting and not value.requires_grad and matches(name, patterns)
        ]
        for parameter in new:
            parameter.requires_grad_(True)
        if new:
            module.train()
            rest_frozen_modules(module)
        return bool(new)


def _is_due(stage: UnfreezeStage, epochs: int, steps: int) -> bool:
    if stage.after_epochs is not None:
        return epochs >= stage.after_epochs
    return stage.after_steps is not None and steps >= stage.after_steps


def wrap_again(trainer: Trainer) -> None:
    """Makes DDP's wrapper anew: one that exists never exchanges gradients of what was frozen when it was made.

    All processes come here after the same step, with nothing accumulated.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, DDPStrategy) or not isinstance(strategy.model, nn.parallel.DistributedDataParallel):
        return
    module = trainer.lightning_module
    for parameter in module.parameters():
        parameter.grad = None  # parts of the old wrapper's buckets
    strategy.model._remove_autograd_hooks()
    strategy.model = module
    strategy.configure_ddp()
