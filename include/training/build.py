"""The model and the data of one training, ready to be fitted: the same for the final fit and for a trial of a sweep."""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule
from safetensors.torch import load_file
from torch import nn

from include.errors import UserError
from include.families.contract import DatasetView, LightningFamily
from include.spec.models import FamilySpec
from include.training.distilling import DISTILLATION, Distillation
from include.training.freezing import freeze, matches, note, weight_names
from include.training.weights import INIT, TEACHER, Found, Origins


def build(
    family: LightningFamily,
    spec: FamilySpec,
    dataset: DatasetView,
    hyperparameters: Mapping[str, Any],
    seed: int,
    origins: Origins,
) -> tuple[LightningModule, LightningDataModule]:
    """The family's module with the weights that it starts from, frozen and taught as the spec says; and its data.

    Raises:
        UserError: The weights do not fit the model, or the spec asks for what the family's model cannot do.
    """
    data = family.data_module(spec, dataset, hyperparameters, seed)
    module = family.module(spec, dataset, hyperparameters)
    freeze(module, spec.trainer.transfer)
    if INIT in origins.found:
        start_from(module, origins.found[INIT].path, spec.trainer.transfer.init_parameters)
    if TEACHER in origins.found and spec.trainer.teacher is not None:
        if not hasattr(module, DISTILLATION):
            raise UserError(
                f"{type(module).__name__} cannot learn from a teacher",
                where="trainer.teacher",
                hint=f"its class needs an attribute `{DISTILLATION}`; see include/training/distilling.py",
            )
        teacher = _teacher(family, spec, dataset, origins.found[TEACHER])
        setattr(module, DISTILLATION, Distillation(teacher, spec.trainer.teacher))
    return module, data


def start_from(module: nn.Module, path: Path, patterns: Sequence[str]) -> None:
    """Puts trained weights into the module.

    Args:
        patterns: Which of them; empty: all, and they must be all that the module learns.

    Raises:
        UserError: They do not fit.
    """
    weights, own = load_file(path), module.state_dict()
    taken = {name: value for name, value in weights.items() if not patterns or matches(name, patterns)}
    odd = [name for name, value in taken.items() if name not in own or own[name].shape != value.shape]
    odd += [] if patterns else sorted(weight_names(module) - set(weights))
    if odd or not taken:
        what = f"{len(odd)} of them do not, such as {odd[0]}" if odd else f"none is called {patterns[0]!r}"
        raise UserError(
            f"the weights to start from do not fit the model: {what}",
            where="trainer.transfer.init_from",
            hint="give `model` as it was, or name what fits under init_parameters",
        )
    module.load_state_dict(taken, strict=False)
    note(module, brought=frozenset(taken))


def _teacher(family: LightningFamily, spec: FamilySpec, dataset: DatasetView, found: Found) -> LightningModule:
    """The teacher, built as it was trained."""
    model = spec.model_copy(update={"model": found.record.model})
    teacher = family.module(model, dataset, found.record.hyperparameters)
    start_from(teacher, found.path, ())
    return teacher
