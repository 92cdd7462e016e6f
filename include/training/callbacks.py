"""What happens around the training steps: seeding, progress, checkpoints, best weights, and leaving when asked to."""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import save_file

from include.errors import DataError, Diverged
from include.steps.entry import StepContext
from include.training.checkpoints import BEST, Checkpoints, place
from include.training.freezing import moving_names, weight_names
from include.training.lost import MarkWriter
from include.training.ranks import Rank
from include.training.record import Record, events_file
from include.training.stop import Stopped
from include.training.tasks import LOSSES

_EVENT_SECONDS = 1.0
_BATCH_SIZE = "windtunnel_batch_size"


class FitCallback(Callback):
    """Runs on every rank; only rank 0 writes.

    Args:
        metric, maximize: Which validation metric decides which weights are best.
        batch_size: Examples per batch over all ranks.
        marks, attempt: The file and the name of this try's marks (`include.training.lost`).
    """

    def __init__(
        self,
        context: StepContext,
        rank: Rank,
        *,
        metric: str,
        maximize: bool,
        batch_size: int,
        seed: int,
        marks: Path,
        attempt: str,
    ) -> None:
        self._context = context
        self._rank = rank
        self._metric = metric
        self._sign = 1.0 if maximize else -1.0
        self._batch = batch_size
        self._seed = seed
        self._every = context.document.model_spec.trainer.checkpoint_every_steps
        self._checkpoints = Checkpoints(context.store, place(context.document))
        self._mark = 0.0
        self._far: MarkWriter | None = None
        if rank.number == 0:
            self._far = MarkWriter(context.store, context.document.output, marks, attempt)
        self._last_event = 0.0
        self._step = 0
        self._due = self._stopping = False
        self.record = Record()

    # State -----------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        return vars(self.record).copy()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.record = Record(**state_dict)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Parameters that do not learn are where they came from: no need to store them at every checkpoint."""
        kept = moving_names(pl_module)
        checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in kept}
        checkpoint[_BATCH_SIZE] = self._batch

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        missing = moving_names(pl_module) - set(checkpoint["state_dict"])
        if missing:
            raise DataError(
                f"the checkpoint lacks {len(missing)} parameters, such as {min(missing)}",
                hint="remove it and start again",
            )
        self._count_in_smaller_batches(checkpoint)

    def _count_in_smaller_batches(self, checkpoint: dict[str, Any]) -> None:
        """A position inside of an epoch is a number of batches: of half the size, twice as many were done.

        The examples behind it are the same number, but not always the same ones: which follow each other is up to the
        family's order of batches of that size.
        """
        before = int(checkpoint.get(_BATCH_SIZE, self._batch))
        if before == self._batch:
            return
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for part in ("total", "current"):
            ready = progress[part]["ready"]  # what follows it may be one behind: Lightning reads from that where it was
            progress[part] = {
                name: ready * before // self._batch - (ready - value) for name, value in progress[part].items()
            }

    # Training --------------------------------------------------------------------------------------------------------
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        if self._far is not None:
            self._far.saved(self._step, self.record.seconds)
        self._progress(trainer, {}, force=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Random numbers depend on seed, epoch, batch and rank alone: a resumed run draws the same ones."""
        seed_all(self._seed, trainer.current_epoch, batch_idx, self._rank.number)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.record.seconds += now - self._mark
        self.record.samples += self._batch
        self.record.steps = trainer.global_step
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            self._after_step(trainer, outputs)
        self._mark = time.perf_counter()

    def _after_step(self, trainer: Trainer, outputs: Any) -> None:
        if self._far is not None:
            self._far.step(self._step, self.record.seconds)
        if time.monotonic() - self._last_event > _EVENT_SECONDS:
            loss = float(outputs["loss"] if isinstance(outputs, Mapping) else outputs)
            if not np.isfinite(loss):
                self._check_weights(trainer, loss)
            losses = {f"loss_{name}": float(value) for name, value in _task_losses(outputs).items()}
            self._event(trainer, {"loss": loss, "samples_per_second": self._speed(), **losses})
            self._progress(trainer, {"loss": loss, **losses})
        self._stopping = self._rank.stop.due(self._step, self._rank.number, self._rank.world)
        if self._stopping or self._step % self._every == 0:
            self._due = True
        if not trainer.is_last_batch:
            self._save_if_due(trainer)

    def _check_weights(self, trainer: Trainer, loss: float | None = None) -> None:
        """Raises `Diverged` where a weight is not finite. A loss alone may be: fp16 leaves such a step out."""
        for name, value in state(trainer.lightning_module, moving_names(trainer.lightning_module)).items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                shown = "" if loss is None else f", the loss is {loss}"
                raise Diverged(f"{name} is not finite after step {self._step}{shown}", hint="lower the learning rate")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A checkpoint that falls on the last step waits for validation, which a resumed run would leave out."""
        if not trainer.should_stop and trainer.current_epoch + 1 < (trainer.max_epochs or 1):
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = {name: round(float(value), 6) for name, value in trainer.callback_metrics.items()}
        if self._metric not in metrics:
            known = ", ".join(sorted(metrics)) or "(none)"
            raise DataError(f"validation gives no metric {self._metric!r}; it gives {known}", where="sweep.metric")
        value, best = metrics[self._metric], self.record.best_value
        if not np.isfinite(value):
            raise Diverged(
                f"{self._metric} is {value} after epoch {trainer.current_epoch + 1}", hint="lower the learning rate"
            )
        if best is None or self._sign * value > self._sign * best:
            self.record.best_epoch, self.record.best_value, self.record.metrics = trainer.current_epoch, value, metrics
            if self._rank.number == 0:
                path = self._rank.scratch / BEST
                names = weight_names(pl_module)
                save_file({name: tensor.cpu().contiguous() for name, tensor in state(pl_module, names).items()}, path)
                self._checkpoints.save_best(path)
        self._event(trainer, {f"validation_{name}": number for name, number in metrics.items()})
        self._progress(trainer, {self._metric: value}, force=True)
        self._mark = time.perf_counter()

    # Output ----------------------------------------------------------------------------------------------------------
    def _save_if_due(self, trainer: Trainer) -> None:
        if self._due:
            self._check_weights(trainer)  # a checkpoint that diverged would be gone on from for ever
            path = self._rank.scratch / f"step-{self._step}.ckpt"
            trainer.save_checkpoint(path)  # by all ranks: it ends in a barrier
            if self._rank.number == 0:
                self._checkpoints.save(path, self._step)
                path.unlink()
                if self._far is not None:
                    self._far.saved(self._step, self.record.seconds)
            self._due = False
        if self._stopping:
            raise Stopped("training was asked to stop")

    def _speed(self) -> float:
        return self.record.samples / self.record.seconds if self.record.seconds else 0.0

    def _progress(self, trainer: Trainer, facts: dict[str, float], force: bool = False) -> None:
        if self._rank.number == 0:
            epoch = min(trainer.current_epoch + 1, trainer.max_epochs or 1)
            best = {"best": self.record.best_value} if self.record.best_value is not None else {}
            self._context.progress(
                self._step, trainer.estimated_stepping_batches, "steps", force=force, epoch=epoch, **facts, **best
            )

    def _event(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """A line for the tracker, which the parent process reads."""
        self._last_event = time.monotonic()
        if self._rank.number == 0:
            line = {"step": self._step, "epoch": trainer.current_epoch, "at": time.time(), "metrics": metrics}
            with events_file(self._rank.scratch).open("a") as events:
                events.write(json.dumps(line) + "\n")
        if self._far is not None:
            self._far.publish()


def _task_losses(outputs: Any) -> Mapping[str, torch.Tensor]:
    """Of a family that has several tasks; see `include.training.tasks`."""
    found: Mapping[str, torch.Tensor] = outputs.get(LOSSES, {}) if isinstance(outputs, Mapping) else {}
    return found


def state(module: LightningModule, names: set[str]) -> dict[str, torch.Tensor]:
    """The part of the module's state that is named."""
    return {name: value.detach() for name, value in module.state_dict().items() if name in names}


def seed_all(*parts: int) -> None:
    """Seeds Python, numpy and torch from all `parts` together."""
    state = int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
    random.seed(state)
    np.random.seed(state % 2**32)
    # Without an accelerator, torch's own function notes at every call what to do should one be used later: a
    # millisecond a step, which is a percent of a training on processors.
    seed = torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed
    seed(state % 2**63)
