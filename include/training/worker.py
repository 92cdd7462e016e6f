"""What one training process does: build data, module and trainer from the run document, and fit."""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.strategies import DDPStrategy

from include.data.datasets import open_dataset
from include.errors import UserError
from include.families.contract import load_code
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.document import RunDocument
from include.steps.entry import StepContext
from include.store.objects import open_store
from include.training.callbacks import FitCallback, seed_all
from include.training.ranks import Rank

SUMMARY = "training.json"


@dataclass(frozen=True)
class TrainRank:
    """The work of one rank. Small and picklable: each process opens its own connections.

    Attributes:
        spec: The document's spec with the run's overrides applied.
        resume: Checkpoint to go on from.
        marks, attempt: Where rank 0 marks how far it is, and the name of this try (`include.training.lost`).
    """

    document: RunDocument
    settings: Settings
    spec: FamilySpec
    hyperparameters: dict[str, Any]
    seed: int
    resume: Path | None
    marks: Path
    attempt: str

    def __call__(self, rank: Rank) -> None:
        store = open_store(self.settings.store_url)
        context = StepContext(self.document.model_copy(update={"spec": self.spec}), store, self.settings)
        family = load_code(self.spec.code)
        version, fold = self.document.inputs["dataset_version"], self.spec.split.fold
        dataset = open_dataset(self.settings, self.spec.family, version, fold)
        seed_all(self.seed)
        data = family.data_module(self.spec, dataset, self.hyperparameters, self.seed)
        module = family.module(self.spec, dataset, self.hyperparameters)
        module.strict_loading = False  # checkpoints hold what learns; see FitCallback
        callback = FitCallback(
            context,
            rank,
            metric=self.spec.sweep.metric,
            maximize=self.spec.sweep.direction == "maximize",
            batch_size=self.spec.trainer.batch_size,
            seed=self.seed,
            marks=self.marks,
            attempt=self.attempt,
        )
        trainer = make_trainer(self.spec, [callback], devices=rank.world, folder=rank.scratch)
        trainer.fit(module, datamodule=data, ckpt_path=self.resume, weights_only=True)
        if rank.number == 0:
            (rank.scratch / SUMMARY).write_text(json.dumps(callback.state_dict()))


def make_trainer(spec: FamilySpec, callbacks: list[Callback], *, devices: int, folder: Path) -> Trainer:
    """Lightning's trainer as the spec describes it, without the parts that this project has its own of.

    Raises:
        UserError: This machine has no such accelerator, or fewer of them than the spec's `devices`.
    """
    trainer, callbacks = spec.trainer, list(callbacks)
    if trainer.early_stopping_patience is not None:
        mode = "max" if spec.sweep.direction == "maximize" else "min"
        callbacks.append(EarlyStopping(spec.sweep.metric, patience=trainer.early_stopping_patience, mode=mode))
    warnings.filterwarnings("ignore", module=r"(lightning|torch)\..*")  # advice that our own parts already follow
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it sets its own level when it is imported
    try:
        return Trainer(
            accelerator=trainer.accelerator,
            devices=devices,
            strategy=DDPStrategy(gradient_as_bucket_view=True, broadcast_buffers=False) if devices > 1 else "auto",
            precision=trainer.precision.value,
            max_epochs=trainer.max_epochs,
            accumulate_grad_batches=trainer.accumulate_grad_batches,
            gradient_clip_val=trainer.gradient_clip_norm or None,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=str(folder),
        )
    except MisconfigurationException as error:
        raise UserError(
            f"the trainer cannot run here: {error}", where="trainer", hint="check `accelerator` and `devices`"
        ) from error
