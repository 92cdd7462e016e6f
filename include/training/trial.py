# ruff: noqa: TID253 - imported by steps only
"""One trial of a sweep: a short fit in this process that reports its validation metric after every epoch."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import save_file

from include.errors import Diverged, UserError
from include.families.contract import LightningFamily
from include.training.build import build
from include.training.callbacks import seed_all, state
from include.training.checkpoints import BEST
from include.training.freezing import weight_names
from include.training.trainer import Best, Report, TrialWork
from include.training.worker import make_trainer


class TrialCallback(Callback):
    """Seeds every batch as the final fit does, and hands the metric over; `report` may end the trial by raising."""

    def __init__(self, metric: str, maximize: bool, seed: int, report: Report, keep: Best | None) -> None:
        self._metric = metric
        self._sign = 1.0 if maximize else -1.0
        self._seed = seed
        self._report = report
        self._keep = keep
        self.best: float | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        seed_all(self._seed, trainer.current_epoch, batch_idx, 0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._metric not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics)) or "(none)"
            raise UserError(f"validation gives no metric {self._metric!r}; it gives {known}", where="sweep.metric")
        value = float(trainer.callback_metrics[self._metric])
        if math.isfinite(value) and (self.best is None or self._sign * value > self._sign * self.best):
            self.best = value
            if self._keep is not None:
                self._keep.metrics = {name: float(metric) for name, metric in trainer.callback_metrics.items()}
                self._keep.weights = self._keep.folder / BEST
                values = state(pl_module, weight_names(pl_module))
                save_file({name: tensor.cpu().contiguous() for name, tensor in values.items()}, self._keep.weights)
        self._report(trainer.current_epoch, value)


def train_trial(work: TrialWork, family: LightningFamily) -> float:
    """Lightning's part of `include.training.trainer.Trainer.trial`."""
    spec, seed = work.spec, work.seed
    torch.set_num_threads(work.threads)
    seed_all(seed)
    callback = TrialCallback(spec.sweep.metric, spec.sweep.direction == "maximize", seed, work.report, work.keep)
    module, data = build(family, spec, work.dataset, work.hyperparameters, seed, work.origins)
    make_trainer(spec, [callback], devices=1, folder=work.folder).fit(module, datamodule=data)
    if callback.best is None:
        raise Diverged(f"the trial gave no finite {spec.sweep.metric}", where="sweep", hint="narrow the search space")
    return callback.best
