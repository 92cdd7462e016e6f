"""A family that learns in milliseconds: two tasks over a shared trunk with dropout and a batch norm.

`kind` tells three kinds of points apart, `amount` is a number. What it trains is real: a LightningModule that asks the
platform for everything that the spec's trainer part offers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from include.families.contract import DatasetView
from include.spec.models import FamilySpec
from include.spec.training import TrainerSpec
from include.training.distilling import Distillation
from include.training.optimizing import optimizer_and_schedule
from include.training.position import position
from include.training.tasks import TaskLosses
from tests.fakes.tiny_family import tiny_spec

FAMILY, CODE = "tiny", "tests.fakes.tiny_torch:TinyTorch"
WEIGHTS = "weights.safetensors"
WIDTH, KINDS = 8, 3


class Points(NamedTuple):
    values: Tensor
    kinds: Tensor
    amounts: Tensor

    def part(self, rows: Tensor) -> Points:
        return Points(*(column[rows] for column in self))


class TinyPoints:
    """A `DatasetView` in name; `shift` moves the domain: the same tasks on points that look different."""

    def __init__(self, version: str = "1.0.0", shift: float = 0.0) -> None:
        self.version, self.shift = version, shift
        self.digest = hashlib.sha256(f"points-{version}-{shift}".encode()).hexdigest()

    def table(self, name: str, split: str | None = None) -> Any:
        raise NotImplementedError("points are made, not read")

    def points(self, split: str, n: int) -> Points:
        generator = torch.Generator().manual_seed({"train": 1, "validation": 2, "test": 3}[split])
        values = torch.randn(n, WIDTH, generator=generator)
        rule = torch.randn(WIDTH, KINDS, generator=torch.Generator().manual_seed(9))
        amounts = torch.sin(values @ rule[:, 0]) + 0.5 * torch.tanh(values @ rule[:, 1])
        noise = 0.3 * torch.randn(n, KINDS, generator=generator)
        return Points(values + self.shift, (values @ rule + noise).argmax(dim=1), amounts)


@dataclass(frozen=True)
class Batches:
    """A loader of this rank's share of batches, from where training is."""

    data: TinyData
    rows: list[Tensor]
    follow: bool

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Points]:
        epoch, done = position(self.data.trainer) if self.follow else (0, 0)
        for index in range(done, len(self.rows)):
            yield self.data.batch(epoch, index) if self.follow else self.data.validation


class TinyData(LightningDataModule):
    """Equal halves of a batch are two batches of half the size: what out-of-memory retries count on."""

    def __init__(self, dataset: TinyPoints, trainer_spec: TrainerSpec, seed: int, pause_ms: float = 0.0) -> None:
        super().__init__()
        self._pause = pause_ms / 1000
        self.points = dataset.points("train", trainer_spec.max_examples or 96)
        self.validation = dataset.points("validation", 48)
        self._size, self._seed = trainer_spec.batch_size, seed

    def batch(self, epoch: int, index: int) -> Points:
        time.sleep(self._pause)
        generator = torch.Generator().manual_seed(self._seed * 1000 + epoch)
        order = torch.randperm(len(self.points.values), generator=generator)
        rows = order[index * self._size : (index + 1) * self._size]
        return self.points.part(rows[self.trainer.global_rank :: self.trainer.world_size])  # type: ignore[union-attr]

    def train_dataloader(self) -> Batches:
        return Batches(self, [torch.empty(0)] * (len(self.points.values) // self._size), follow=True)

    def val_dataloader(self) -> Batches:
        return Batches(self, [torch.empty(0)], follow=False)


class TinyModule(LightningModule):
    """Trunk (two layers) and two heads; the teacher, if there is one, teaches the kinds.

    A `plain` one treats each example by itself, whatever the batch: without batch norm and dropout.
    """

    distillation: Distillation | None = None

    def __init__(
        self, trainer_spec: TrainerSpec, hyperparameters: Mapping[str, Any], width: int, plain: bool = False
    ) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(WIDTH, width),
            nn.Identity() if plain else nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(0.0 if plain else 0.1),
            nn.Linear(width, width),
            nn.ReLU(),
        )
        self.kind, self.amount = nn.Linear(width, KINDS), nn.Linear(width, 1)
        self.tasks = TaskLosses(trainer_spec.tasks, ["kind", "amount"])
        self._trainer_spec, self._hyper = trainer_spec, hyperparameters

    def logits(self, values: Tensor) -> Tensor:
        kinds: Tensor = self.kind(self.trunk(values))
        return kinds

    def losses(self, batch: Points) -> tuple[dict[str, Tensor], Tensor]:
        """By task; and the logits of the kinds."""
        hidden = self.trunk(batch.values)
        logits, amounts = self.kind(hidden), self.amount(hidden)[:, 0]
        return {
            "kind": nn.functional.cross_entropy(logits, batch.kinds),
            "amount": nn.functional.mse_loss(amounts, batch.amounts),
        }, logits

    def training_step(self, batch: Points, batch_idx: int) -> dict[str, Any]:
        losses, logits = self.losses(batch)
        if self.distillation is not None:
            theirs = self.distillation.ask(lambda teacher: teacher.logits(batch.values))
            losses["kind"] = self.distillation.soft_targets(losses["kind"], logits, theirs)
        return self.tasks(losses)

    def validation_step(self, batch: Points, batch_idx: int) -> None:
        losses, _ = self.losses(batch)
        self.log_dict({**losses, "loss": losses["kind"] + losses["amount"]}, batch_size=len(batch.values))

    def configure_optimizers(self) -> Any:
        return optimizer_and_schedule(
            self,
            self._trainer_spec,
            learning_rate=float(self._hyper["learning_rate"]),
            weight_decay=self._hyper.get("weight_decay"),
            warmup_share=self._hyper.get("warmup_share"),
        )


class TinyTorch:
    """Satisfies the parts of `Family` that training uses."""

    def data_module(
        self, spec: FamilySpec, dataset: DatasetView, hyperparameters: Mapping[str, Any], seed: int
    ) -> TinyData:
        assert isinstance(dataset, TinyPoints)
        return TinyData(dataset, spec.trainer, seed, float(spec.model.get("pause_ms", 0.0)))

    def module(self, spec: FamilySpec, dataset: DatasetView, hyperparameters: Mapping[str, Any]) -> TinyModule:
        model = spec.model
        return TinyModule(spec.trainer, hyperparameters, model.get("width", 16), plain=model.get("plain", False))

    def export(
        self,
        spec: FamilySpec,
        dataset: DatasetView,
        hyperparameters: Mapping[str, Any],
        checkpoint: Path | None,
        folder: Path,
    ) -> dict[str, Any]:
        module = self.module(spec, dataset, hyperparameters)
        if checkpoint is not None:
            module.load_state_dict(load_file(checkpoint))
        save_file(module.state_dict(), folder / WEIGHTS)
        return {}


def torch_spec(**trainer: Any) -> FamilySpec:
    """Six steps an epoch, on the processor, in single precision, unless told otherwise."""
    model = trainer.pop("model", {})
    basics = {"max_epochs": 3, "batch_size": 16, "accelerator": "cpu", "checkpoint_every_steps": 4}
    return tiny_spec(
        code=CODE,
        model=model,
        hyperparameters={"learning_rate": 0.02},
        trainer={**basics, **trainer},
        sweep={
            "metric": "loss",
            "direction": "minimize",
            "space": {"learning_rate": {"kind": "float", "low": 0.001, "high": 0.1}},
        },
    )
