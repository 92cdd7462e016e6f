"""Training with Keras on TensorFlow. Needs the extra `keras`.

The loop is ours (`learning`), and so are the checkpoints: variables, optimizer and the states of random numbers are all
Keras variables, so that a resumed training takes the very steps that an undisturbed one does.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.errors import UserError
from include.families.contract import Arrays, KerasFamily
from include.frameworks.keras_models import keras, load_state, predictions, save_state
from include.spec.training import Precision, TrainerSpec
from include.training.checkpoints import BEST
from include.training.learning import ArrayTrainer, Learner, Lesson
from include.training.trainer import require_methods

_POLICIES = {Precision.FP32: "float32", Precision.FP16: "mixed_float16", Precision.BF16: "mixed_bfloat16"}


class KerasTrainer(ArrayTrainer):
    """Keras, in one process and on one device; see `include.training.trainer.Trainer`.

    Nothing is imported before the fork, which TensorFlow's threads do not survive.
    """

    def learner(self, lesson: Lesson) -> Learner:
        spec = lesson.spec
        found: KerasFamily = require_methods(lesson.family, spec, "network")
        library = keras()
        _prepare(library, spec.trainer, lesson.seed, lesson.threads)
        model = found.network(spec, lesson.arrays, lesson.hyperparameters)
        return KerasLearner(library, model, lesson.arrays, spec.trainer, lesson.seed)


class KerasLearner:
    """A compiled model in training; see `include.training.learning.Learner`. A step is one of the optimizer."""

    def __init__(self, library: Any, model: Any, arrays: Arrays, trainer: TrainerSpec, seed: int) -> None:
        self.model = model
        self.epochs, self.save_every = trainer.max_epochs, trainer.checkpoint_every_steps
        self._arrays, self._seed = arrays, seed
        self._parts = trainer.accumulate_grad_batches
        self._size = trainer.batch_size * self._parts
        self.steps = max(1, len(arrays) // self._size + (len(arrays) % self._size >= self._parts))
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self._optimize(library, trainer)

    def step(self, epoch: int, index: int) -> tuple[float | None, int]:
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self._seed, epoch)).permutation(len(self._arrays)))
        rows = self._order[1][index * self._size : (index + 1) * self._size]
        losses = []
        for part in np.array_split(rows, self._parts):
            batch = self._arrays.rows(part)
            self.model.reset_metrics()  # Keras tells the mean since the last reset
            told = self.model.train_on_batch(
                batch.features, batch.targets, sample_weight=batch.weights, return_dict=True
            )
            losses.append(float(told["loss"]))
        return float(np.mean(losses)), len(rows)

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return predictions(self.model, features)

    def save(self, path: Path) -> None:
        optimizer = self.model.optimizer
        seen = int(optimizer._iterations.numpy())
        optimizer._iterations.assign(seen // self._parts)  # it counts batches, of which another try may need more
        save_state(self._state(), path)
        optimizer._iterations.assign(seen)

    def restore(self, path: Path) -> None:
        load_state(self._state(), path)
        iterations = self.model.optimizer._iterations
        iterations.assign(int(iterations.numpy()) * self._parts)

    def save_best(self, folder: Path) -> Path:
        save_state(self.model.weights, folder / BEST)
        return folder / BEST

    def _state(self) -> list[Any]:
        """All variables of the model (its random numbers' among them) and of the optimizer. What it accumulates is
        nothing between steps."""
        optimizer = self.model.optimizer
        summed = {id(variable) for variable in getattr(optimizer, "_accumulated_gradients", ())}
        return [*self.model.variables, *(one for one in optimizer.variables if id(one) not in summed)]

    def _optimize(self, library: Any, trainer: TrainerSpec) -> None:
        """The family's optimizer and loss, with the spec's clipping and accumulation."""
        model = self.model
        asked = {"global_clipnorm": trainer.gradient_clip_norm or None}
        asked["gradient_accumulation_steps"] = self._parts if self._parts > 1 else None
        inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # where fp16 scales the loss
        config = {**inner.get_config(), **asked}
        if config.get("clipnorm") or config.get("clipvalue"):
            raise UserError("the network clips gradients by itself", where="trainer.gradient_clip_norm")
        model.compile(optimizer=type(inner).from_config(config), loss=model.loss)
        model.optimizer.build(model.trainable_variables)


def _prepare(library: Any, trainer: TrainerSpec, seed: int, threads: int) -> None:
    """Seeds, precision, device and threads, of this process.

    Raises:
        UserError: The spec asks for a GPU and there is none.
    """
    import tensorflow

    library.utils.clear_session()
    library.utils.set_random_seed(seed)
    library.config.set_dtype_policy(_POLICIES[trainer.precision])
    gpus = tensorflow.config.list_physical_devices("GPU")
    if trainer.accelerator == "gpu" and not gpus:
        raise UserError(
            "the trainer cannot run here: TensorFlow sees no GPU", where="trainer", hint="check `accelerator`"
        )
    with suppress(RuntimeError):  # they are set: TensorFlow takes them once a process
        if trainer.accelerator == "cpu":
            tensorflow.config.set_visible_devices([], "GPU")
        tensorflow.config.experimental.enable_op_determinism()
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
