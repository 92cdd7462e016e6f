"""The contract that a training framework fulfils, and the choice of one by `trainer.framework` in the spec.

What surrounds it is the same for all: the run document, the processes and how they end (`ranks`), checkpoints,
progress, the MLflow run, work lost, cost, and the export of the best weights into a package. A framework is imported
when it is chosen, and no other with it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from include.errors import UserError
from include.families.contract import DatasetView, Family
from include.settings import Settings
from include.spec.models import FamilySpec
from include.spec.training import Framework
from include.steps.document import RunDocument
from include.training.ranks import Rank
from include.training.weights import Origins

SUMMARY = "training.json"

Report = Callable[[int, float], None]


@dataclass
class Best:
    """What a trial keeps of its best epoch, where the sweep has a second objective.

    Attributes:
        folder: Where the weights go; exists.
        metrics: All validation metrics of the epoch.
        weights: The file that `Family.export` takes as `checkpoint`.
    """

    folder: Path
    metrics: Mapping[str, float] = field(default_factory=dict)
    weights: Path | None = None


class Trainer(Protocol):
    """A framework. Made without arguments, in the process that uses it; keeps no state."""

    def preload(self, spec: FamilySpec) -> None:
        """Imports, before the training processes are forked, what all of them need and what survives a fork."""
        ...

    def train(self, work: Work, rank: Rank) -> dict[str, Any]:
        """One process's part of a training, in that process, from `work.resume` on; the same on every rank.

        Saves checkpoints and the best weights (`include.training.checkpoints`), marks how far it is, writes events for
        the tracker, and leaves with `Stopped`, after saving, where `rank.stop` says so. Random numbers depend on the
        seed and the position alone, so that a resumed training ends as an undisturbed one.

        Returns:
            The fields of `include.training.record.Record`; rank 0's are used.

        Raises:
            UserError, DataError: A person must mend the spec or the data.
            Diverged: A loss, a metric or a weight is not finite.
            Stopped: It was asked to, and has saved.
        """
        ...

    def trial(self, work: TrialWork) -> float:
        """A short training of a sweep, in this process; the best value of the sweep's metric over its epochs.

        Raises:
            UserError: Validation does not give the sweep's metric.
            Diverged: The metric is not a finite number.
        """
        ...


@dataclass(frozen=True)
class Work:
    """What one training is to do. Small and picklable: each process opens its own connections.

    Attributes:
        spec: The document's spec with the run's overrides applied.
        resume: Checkpoint to go on from.
        origins: Models that training starts from, or learns from.
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
    origins: Origins

    def __call__(self, rank: Rank) -> None:
        summary = load_trainer(self.spec).train(self, rank)
        if rank.number == 0:
            (rank.scratch / SUMMARY).write_text(json.dumps(summary))


@dataclass(frozen=True)
class TrialWork:
    """What one trial of a sweep is to do.

    Attributes:
        threads: That it may compute with.
        folder: For whatever it must write; may not exist.
        report: Told the metric after every epoch, from 0; may end the trial by raising.
        origins: As in `Work`.
        keep: Filled after every epoch that is the best so far; None: nothing is kept.
    """

    family: Family
    spec: FamilySpec
    dataset: DatasetView
    hyperparameters: Mapping[str, Any]
    seed: int
    threads: int
    folder: Path
    report: Report
    origins: Origins
    keep: Best | None = None


_TRAINERS = {
    Framework.LIGHTNING: "include.training.worker:LightningTrainer",
    Framework.KERAS: "include.training.keras_trainer:KerasTrainer",
    Framework.SKLEARN: "include.training.sklearn_trainer:SklearnTrainer",
}


def load_trainer(spec: FamilySpec) -> Trainer:
    """The trainer that the spec chooses."""
    module, _, name = _TRAINERS[spec.trainer.framework].partition(":")
    made: Trainer = getattr(importlib.import_module(module), name)()
    return made


def require_methods(family: Family, spec: FamilySpec, *names: str) -> Any:
    """The family, as one that has these methods. Raises `UserError` where its code lacks what the framework trains."""
    missing = [name for name in names if not hasattr(family, name)]
    if missing:
        raise UserError(
            f"{spec.code} cannot be trained with {spec.trainer.framework.value}: it has no {', '.join(missing)}",
            where="trainer.framework",
            hint="choose another framework, or write them (include/families/contract.py)",
        )
    return family
