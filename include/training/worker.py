"""Training with Lightning: build data, module and trainer from the run document, and fit."""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.strategies import DDPStrategy

from include.data.datasets import open_dataset
from include.errors import UserError
from include.families.contract import LightningFamily, load_code
from include.spec.models import FamilySpec
from include.spec.optimizing import PlateauSchedule
from include.steps.entry import StepContext
from include.store.objects import open_store
from include.training.buffers import SharedBuffers
from include.training.build import build
from include.training.callbacks import FitCallback, seed_all
from include.training.optimizing import Plateau
from include.training.precision import precision
from include.training.process_group import process_group
from include.training.ranks import Rank
from include.training.trainer import TrialWork, Work, require_methods
from include.training.unfreezing import Unfreezing


class LightningTrainer:
    """Lightning, on as many processes as the spec says; see `include.training.trainer.Trainer`."""

    def preload(self, spec: FamilySpec) -> None:
        """torch, Lightning and the family's parts: seconds that are then spent once."""
        parts = f"{spec.code.partition(':')[0].rpartition('.')[0]}.lightning_parts"
        if importlib.util.find_spec(parts) is not None:
            importlib.import_module(parts)

    def train(self, work: Work, rank: Rank) -> dict[str, Any]:
        spec, document = work.spec, work.document
        context = StepContext(
            document.model_copy(update={"spec": spec}), open_store(work.settings.store_url), work.settings
        )
        dataset = open_dataset(work.settings, spec.family, document.inputs["dataset_version"], spec.split.fold)
        family: LightningFamily = require_methods(load_code(spec.code), spec, "data_module", "module")
        with process_group(rank, spec.trainer.accelerator):
            seed_all(work.seed)
            module, data = build(family, spec, dataset, work.hyperparameters, work.seed, work.origins)
            module.strict_loading = False  # checkpoints hold what learns; see FitCallback
            callback = FitCallback(
                context,
                rank,
                metric=spec.sweep.metric,
                maximize=spec.sweep.direction == "maximize",
                batch_size=spec.trainer.batch_size,
                seed=work.seed,
                marks=work.marks,
                attempt=work.attempt,
            )
            devices, nodes = spec.trainer.devices, spec.trainer.nodes
            trainer = make_trainer(spec, [callback], devices=devices, nodes=nodes, folder=rank.scratch)
            trainer.fit(module, datamodule=data, ckpt_path=work.resume, weights_only=True)
        return callback.state_dict()

    def trial(self, work: TrialWork) -> float:
        from include.training.trial import train_trial

        return train_trial(work, require_methods(work.family, work.spec, "data_module", "module"))


def make_trainer(spec: FamilySpec, callbacks: list[Callback], *, devices: int, folder: Path, nodes: int = 1) -> Trainer:
    """Lightning's trainer as the spec describes it, without the parts that this project has its own of.

    Args:
        devices: Processes on each of `nodes`.

    Raises:
        UserError: This machine has no such accelerator, or fewer of them than the spec's `devices`.
    """
    trainer, several = spec.trainer, devices * nodes > 1
    warnings.filterwarnings("ignore", module=r"(lightning|torch)\..*")  # advice that our own parts already follow
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it sets its own level when it is imported
    try:
        return Trainer(
            accelerator=trainer.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=DDPStrategy(gradient_as_bucket_view=True, broadcast_buffers=False) if several else "auto",
            **precision(trainer),
            max_epochs=trainer.max_epochs,
            accumulate_grad_batches=trainer.accumulate_grad_batches,
            gradient_clip_val=trainer.gradient_clip_value or trainer.gradient_clip_norm or None,
            gradient_clip_algorithm="value" if trainer.gradient_clip_value else "norm",
            callbacks=[*_spec_callbacks(spec), *([SharedBuffers()] if several else []), *callbacks],
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


def _spec_callbacks(spec: FamilySpec) -> list[Callback]:
    """What the spec asks for beyond the trainer's own; before the callbacks that save, so that these save its state."""
    trainer, made = spec.trainer, list[Callback]()
    if trainer.transfer.unfreeze:
        made.append(Unfreezing(trainer.transfer))
    if isinstance(trainer.scheduler, PlateauSchedule):
        made.append(Plateau(spec, trainer.scheduler))
    if trainer.early_stopping_patience is not None:
        mode = "max" if spec.sweep.direction == "maximize" else "min"
        made.append(
            EarlyStopping(
                spec.sweep.metric,
                patience=trainer.early_stopping_patience,
                min_delta=trainer.early_stopping_min_delta,
                mode=mode,
            )
        )
    return made
