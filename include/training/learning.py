"""The training loop of the frameworks that learn from arrays, the same for scikit-learn and Keras.

A `Learner` is a framework's model: it takes a step, predicts, and writes its state. A `Watch` is told how far it is:
one saves checkpoints and the best weights of a training (`watching`), one reports to a sweep.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from include.data.datasets import open_dataset
from include.errors import DataError, Diverged
from include.families.contract import ArrayFamily, Arrays, DatasetView, Family, load_code
from include.spec.models import FamilySpec
from include.training.ranks import Rank
from include.training.record import wanted
from include.training.trainer import Best, Report, TrialWork, Work, require_methods
from include.training.watching import FitWatch


@dataclass(frozen=True)
class Lesson:
    """What a learner is to learn, from which examples, and with how many threads."""

    family: Family
    spec: FamilySpec
    arrays: Arrays
    hyperparameters: Mapping[str, Any]
    seed: int
    threads: int


@dataclass(frozen=True)
class Step:
    """A step that was taken.

    Attributes:
        loss: Where the framework tells one.
        samples: Examples that it saw.
    """

    epoch: int
    loss: float | None
    samples: int
    seconds: float


class Learner(Protocol):
    """A model in training. Its steps depend on the seed and the position alone."""

    @property
    def epochs(self) -> int: ...

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        ...

    @property
    def save_every(self) -> int:
        """Steps after which a checkpoint is due."""
        ...

    def step(self, epoch: int, index: int) -> tuple[float | None, int]:
        """Takes a step; its loss, where the framework tells one, and how many examples it saw. Raises `Diverged`."""
        ...

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]: ...

    def save(self, path: Path) -> None:
        """Writes all that a later try needs to go on from here."""
        ...

    def restore(self, path: Path) -> None: ...

    def save_best(self, folder: Path) -> Path:
        """Writes what the export needs, as `best.<kind>`, and returns it."""
        ...


class Watch(Protocol):
    """Whoever is told how far a learner is."""

    @property
    def position(self) -> tuple[int, int]:
        """The epoch, and the step in it, to go on from."""
        ...

    def stepped(self, learner: Learner, index: int, taken: Step) -> None:
        """A step is done. May raise `Stopped`."""
        ...

    def validated(self, learner: Learner, epoch: int, metrics: Mapping[str, float]) -> bool:
        """An epoch is done; whether to end here. May raise, as `stepped`."""
        ...


class ArrayTrainer:
    """What scikit-learn's and Keras' trainers share (`include.training.trainer.Trainer`)."""

    def preload(self, spec: FamilySpec) -> None:
        """Nothing: not every framework survives a fork."""

    def learner(self, lesson: Lesson) -> Learner:
        """The framework's model. Raises `UserError` where the family or the spec does not suit it."""
        raise NotImplementedError

    def train(self, work: Work, rank: Rank) -> dict[str, Any]:
        spec = work.spec
        version = work.document.inputs["dataset_version"]
        dataset = open_dataset(work.settings, spec.family, version, spec.split.fold)
        family = load_code(spec.code)
        train, validation = examples(family, spec, dataset, work.seed)
        learner = self.learner(Lesson(family, spec, train, work.hyperparameters, work.seed, rank.threads))
        watch = FitWatch(work, rank, learner)
        learn(learner, watch, family, validation)
        return watch.summary()

    def trial(self, work: TrialWork) -> float:
        train, validation = examples(work.family, work.spec, work.dataset, work.seed)
        lesson = Lesson(work.family, work.spec, train, work.hyperparameters, work.seed, work.threads)
        learner = self.learner(lesson)
        watch = TrialWatch(work.spec, work.report, work.keep)
        learn(learner, watch, work.family, validation)
        if watch.best is None:
            raise Diverged(
                f"the trial gave no {work.spec.sweep.metric}", where="sweep", hint="give it an epoch at least"
            )
        return watch.best


def learn(learner: Learner, watch: Watch, family: Any, validation: Arrays) -> None:
    """Trains from where the watch is to the end, or until it says to end."""
    first, done = watch.position
    for epoch in range(first, learner.epochs):
        for index in range(done if epoch == first else 0, learner.steps):
            started = time.perf_counter()
            loss, samples = learner.step(epoch, index)
            if loss is not None and not np.isfinite(loss):
                raise Diverged(f"the loss is {loss} in epoch {epoch + 1}", hint="lower the learning rate")
            watch.stepped(learner, index, Step(epoch, loss, samples, time.perf_counter() - started))
        predicted = learner.predict(validation.features)
        if not np.isfinite(predicted).all():
            raise Diverged(f"predictions are not finite after epoch {epoch + 1}", hint="lower the learning rate")
        if watch.validated(learner, epoch, family.validation_metrics(predicted, validation)):
            return


class TrialWatch:
    """Reports the sweep's metric, and keeps the best epoch where it is asked to."""

    position = (0, 0)

    def __init__(self, spec: FamilySpec, report: Report, keep: Best | None) -> None:
        self._metric, self._report, self._keep = spec.sweep.metric, report, keep
        self._sign = 1.0 if spec.sweep.direction == "maximize" else -1.0
        self.best: float | None = None

    def stepped(self, learner: Learner, index: int, taken: Step) -> None:
        pass

    def validated(self, learner: Learner, epoch: int, metrics: Mapping[str, float]) -> bool:
        value = wanted(metrics, self._metric)
        if self.best is None or self._sign * value > self._sign * self.best:
            self.best = value
            if self._keep is not None:
                self._keep.metrics = {name: float(number) for name, number in metrics.items()}
                self._keep.weights = learner.save_best(self._keep.folder)
        self._report(epoch, value)
        return False


def examples(family: Family, spec: FamilySpec, dataset: DatasetView, seed: int) -> tuple[Arrays, Arrays]:
    """Examples of training, at most the spec's `max_examples`, and of validation.

    Raises:
        UserError: The family does not give arrays.
        DataError: There are none, or a number is not finite.
    """
    found: ArrayFamily = require_methods(family, spec, "arrays", "validation_metrics")
    train, validation = (checked(found.arrays(spec, dataset, split), split) for split in ("train", "validation"))
    most = spec.trainer.max_examples
    if most is not None and most < len(train):
        train = train.rows(np.sort(np.random.default_rng(seed).permutation(len(train))[:most]))
    if train.weights is not None:  # what is clipped or regularised must not depend on their unit
        train = replace(train, weights=train.weights / train.weights.mean())
    return train, validation


def checked(arrays: Arrays, split: str) -> Arrays:
    """`arrays`, if something can be learnt from them. Raises `DataError`."""
    if not len(arrays):
        raise DataError("there is no example", where=split, hint="is the split empty?")
    for name, values in vars(arrays).items():
        if values is not None and not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
            raise DataError(f"{name} of example {row} hold a number that is not finite", where=split)
    return arrays
