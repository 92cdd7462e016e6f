"""Training with scikit-learn: in rounds where the estimator can go on from where it is, else in one go.

What goes on is an ensemble with `warm_start`, which grows from epoch to epoch, or an estimator with `partial_fit`,
which sees all examples once an epoch. Each epoch is one step and is followed by a checkpoint.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.errors import Diverged, UserError
from include.families.contract import Arrays, SklearnFamily
from include.frameworks.sklearn_models import load_estimator, predictions, save_estimator
from include.spec.models import FamilySpec
from include.training.learning import ArrayTrainer, Learner, Lesson
from include.training.trainer import require_methods

BEST = "best.skops"
#: What the size of an ensemble is called; of other estimators, `max_iter` is something else.
_SIZES = {"HistGradientBoosting": "max_iter", "GradientBoosting": "n_estimators", "RandomForest": "n_estimators"}
_SIZES |= {"ExtraTrees": "n_estimators", "Bagging": "n_estimators"}

_NOT_FINITE = ("overflow", "non-finite", "NaN", "infinity")


class SklearnTrainer(ArrayTrainer):
    """scikit-learn, in one process; see `include.training.trainer.Trainer`."""

    def preload(self, spec: FamilySpec) -> None:
        """scikit-learn: the export needs it as well, in the process that forks."""
        _wait_asleep()
        import sklearn.ensemble  # noqa: F401

    def learner(self, lesson: Lesson) -> Learner:
        _wait_asleep()
        found: SklearnFamily = require_methods(lesson.family, lesson.spec, "estimator")
        estimator = found.estimator(lesson.spec, lesson.hyperparameters, lesson.seed)
        return SklearnLearner(estimator, lesson)


class SklearnLearner:
    """An estimator in training; see `include.training.learning.Learner`."""

    steps = save_every = 1

    def __init__(self, estimator: Any, lesson: Lesson) -> None:
        self.estimator = estimator
        self._arrays, self._seed, self._threads = lesson.arrays, lesson.seed, lesson.threads
        epochs = lesson.spec.trainer.max_epochs
        self._grows = _size_name(estimator) if getattr(estimator, "warm_start", False) else None
        self._size = int(getattr(estimator, self._grows)) if self._grows else 0
        self._in_parts = self._grows is None and hasattr(estimator, "partial_fit")
        self.epochs = epochs if self._in_parts else min(epochs, self._size) or 1
        if self.epochs == 1 and epochs > 1:
            name = type(estimator).__name__
            print(f"fit: {name} is trained in one go: if it is stopped, it begins anew", flush=True)

    def step(self, epoch: int, index: int) -> tuple[float | None, int]:
        from threadpoolctl import threadpool_limits

        arrays = self._arrays
        with threadpool_limits(self._threads), np.errstate(over="ignore", invalid="ignore"):
            try:
                if self._in_parts:
                    self._part(epoch)
                else:
                    if self._grows:
                        size = math.ceil(self._size * (epoch + 1) / self.epochs)
                        self.estimator.set_params(**{self._grows: size})
                    self.estimator.fit(arrays.features, arrays.targets, **_weighted(arrays))
            except (ValueError, TypeError) as error:
                raise _understood(error, self.estimator) from error
        return None, len(arrays)

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(self._threads):
            return predictions(self.estimator, features)

    def save(self, path: Path) -> None:
        save_estimator(self.estimator, path)

    def restore(self, path: Path) -> None:
        self.estimator = load_estimator(path)

    def save_best(self, folder: Path) -> Path:
        save_estimator(self.estimator, folder / BEST)
        return folder / BEST

    def _part(self, epoch: int) -> None:
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._arrays))
        arrays = self._arrays.rows(order)
        classes = {"classes": np.unique(self._arrays.targets)} if hasattr(self.estimator, "predict_proba") else {}
        self.estimator.partial_fit(arrays.features, arrays.targets, **classes, **_weighted(arrays))


def _weighted(arrays: Arrays) -> dict[str, Any]:
    return {} if arrays.weights is None else {"sample_weight": arrays.weights}


def _size_name(estimator: Any) -> str | None:
    name = type(estimator).__name__
    return next((size for start, size in _SIZES.items() if name.startswith(start)), None)


def _understood(error: Exception, estimator: Any) -> Exception:
    """What a person can mend, or what a lower learning rate can, as such."""
    name, said = type(estimator).__name__, str(error)
    if any(word in said for word in _NOT_FINITE):  # it is not the examples: they were looked through
        return Diverged(f"{name}: {said}", hint="lower the learning rate")
    if isinstance(error, TypeError) or type(error).__name__ == "InvalidParameterError":
        return UserError(f"{name}: {said}", where="hyperparameters", hint="correct the model or its hyperparameters")
    return error


def _wait_asleep() -> None:
    """Threads that wait for each other sleep: by default they spin, and on cores that others use as well a fit of
    seconds takes many minutes. OpenMP reads it when it is loaded."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
