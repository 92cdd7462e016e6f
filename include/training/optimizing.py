"""The trainer's part of a spec made into torch's optimizer and schedules: what a LightningModule asks for.

In `configure_optimizers`:

    return optimizer_and_schedule(self, self.trainer_spec, learning_rate=..., weight_decay=...)
"""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, ReduceLROnPlateau

from include.spec.models import FamilySpec
from include.spec.optimizing import AdamSpec, PlateauSchedule
from include.spec.training import Precision, TrainerSpec
from include.training.freezing import factor_for, learning_parameters
from include.training.schedules import factor_of, warmup_steps


def optimizer_and_schedule(
    module: LightningModule,
    spec: TrainerSpec,
    *,
    learning_rate: float,
    weight_decay: float | None = None,
    warmup_share: float | None = None,
    total_steps: int | None = None,
) -> dict[str, Any]:
    """What `configure_optimizers` returns: the spec's optimizer over all that learns, now or later, and its schedule.

    Args:
        learning_rate: The full rate; parameters under `transfer.rates` have a share of it.
        weight_decay, warmup_share: The family's hyperparameters, which go before the spec's; None: the spec's.
        total_steps: Optimizer steps of the whole training; None: as many as Lightning expects.
    """
    decay = spec.optimizer.weight_decay if weight_decay is None else weight_decay
    share = spec.scheduler.warmup_share if warmup_share is None else warmup_share
    total = int(module.trainer.estimated_stepping_batches) if total_steps is None else total_steps
    optimizer = make_optimizer(spec, parameter_groups(module, spec, learning_rate, decay), learning_rate)
    schedule: Any
    if isinstance(spec.scheduler, PlateauSchedule):
        warmup = warmup_steps(share, max(1, total))
        schedule = LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)  # `Plateau` multiplies too
    else:
        schedule = LambdaLR(optimizer, factor_of(spec.scheduler, total_steps=total, warmup_share=share))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def parameter_groups(
    module: nn.Module, spec: TrainerSpec, learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups by share of the rate, and of each the matrices, which decay, and the rest, which does not."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in learning_parameters(module).items():
        key = (factor_for(name, spec.transfer), parameter.ndim > 1)
        groups.setdefault(key, []).append(parameter)
    ordered = sorted(groups, key=lambda key: (-key[0], not key[1]))
    return [
        {
            "params": groups[factor, is_matrix],
            "lr": learning_rate * factor,
            "weight_decay": weight_decay if is_matrix else 0.0,
        }
        for factor, is_matrix in ordered
    ]


def make_optimizer(spec: TrainerSpec, groups: list[dict[str, Any]], learning_rate: float) -> Optimizer:
    """The optimizer; fused, unless its gradients are scaled until the step, when nothing could clip them."""
    fused, chosen = spec.precision is not Precision.FP16, spec.optimizer
    if isinstance(chosen, AdamSpec):
        made = torch.optim.AdamW if chosen.kind == "adamw" else torch.optim.Adam
        return made(groups, lr=learning_rate, betas=chosen.betas, eps=chosen.eps, fused=fused)
    return torch.optim.SGD(groups, lr=learning_rate, momentum=chosen.momentum, nesterov=chosen.nesterov, fused=fused)


class Plateau(Callback):
    """The `plateau` schedule: torch's own, told the metric after validation.

    Lightning would tell it after `on_train_epoch_end`, where checkpoints are saved: one that is resumed from there
    would never learn of that epoch.
    """

    def __init__(self, spec: FamilySpec, schedule: PlateauSchedule) -> None:
        self._metric, self._schedule = spec.sweep.metric, schedule
        self._mode = "max" if spec.sweep.direction == "maximize" else "min"
        self._plateaus: list[ReduceLROnPlateau] = []
        self._restored: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"plateaus": [plateau.state_dict() for plateau in self._plateaus]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict["plateaus"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        chosen = self._schedule
        for optimizer in trainer.optimizers:
            full = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
            plateau = ReduceLROnPlateau(
                optimizer,
                mode=self._mode,  # type: ignore[arg-type]  # one of its two words
                factor=chosen.factor,
                patience=chosen.patience,
                threshold=chosen.min_delta,
                threshold_mode="abs",
                min_lr=[rate * chosen.floor for rate in full],
            )
            self._plateaus.append(plateau)
        for plateau, state in zip(self._plateaus, self._restored, strict=False):
            plateau.load_state_dict(state)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._metric in trainer.callback_metrics:  # where it is not, `FitCallback` says so
            value = float(trainer.strategy.broadcast(trainer.callback_metrics[self._metric]))  # one rate for all ranks
            for plateau in self._plateaus:
                plateau.step(value)
