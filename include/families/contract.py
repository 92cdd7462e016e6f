"""What a family's code provides. Everything else is the same for every family.

`code: module:Class` in `family.yaml` names a class that satisfies `Family`, or `DataCode` where the family is only
data; it is made without arguments. The module of that class is imported inside steps only, so it may import torch and
pandas; `config.py` beside it is imported when DAG files are parsed and may not.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from include.spec.models import FamilySpec

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from lightning import LightningDataModule, LightningModule
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Delivery:
    """One drop of files at a source.

    Attributes:
        name: Stable name at the source, such as `2026-10-12`.
        delivered_on: The day it belongs to; data intervals select by it.
        files: Its files, in a fixed order.
        reader: The family's reader that knows the layout of the files.
    """

    name: str
    delivered_on: date
    files: tuple[Path, ...]
    reader: str = ""


@dataclass(frozen=True)
class RawRecord:
    """One record as it came in, before any check.

    Attributes:
        table: Table it is meant for.
        place: File and line (or index), for error messages and quarantine.
        values: Column -> value as read; empty where the record could not be parsed.
        problem: Name of the reason it could not be parsed (`not_utf8`, `malformed_json`, ...), else None.
        raw: The start of the bytes as text (replacement characters where needed), kept when `problem` is set.
        detail: The problem in words.
    """

    table: str
    place: str
    values: Mapping[str, Any]
    problem: str | None = None
    raw: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Examples:
    """Per-example outcomes of a model on one split.

    Attributes:
        ids: Example ids, shape (n,).
        metrics: Metric name -> value per example, shape (n,); the metric is their mean.
        slices: Slice name (such as `document_id`) -> group label per example, shape (n,).
    """

    ids: Sequence[str]
    metrics: Mapping[str, NDArray[np.float64]]
    slices: Mapping[str, Sequence[str]] = field(default_factory=dict)


class DatasetView(Protocol):
    """A published dataset version, read-only."""

    @property
    def version(self) -> str: ...

    @property
    def digest(self) -> str:
        """sha256 over the content digests of all tables: equal content, equal digest."""
        ...

    def table(self, name: str, split: str | None = None) -> pa.Table:
        """Clean rows of a table; `split` selects by the `split` column (train, validation, test)."""
        ...


class ModelRuntime(Protocol):
    """A loaded model package, as it runs in the gateway: no torch, thread-safe, made once and called often.

    One that does not answer zeros and any text also has `example`, a value for each of its inputs: the gateway warms
    a model up before it routes anybody to it. One whose answer records have numbers between 0 and 1 that say how good
    they may be (such as a confidence) names them in `proxies`: the gateway averages them, and a rollout may be judged
    by them before anybody labels an answer (`guardrails.max_drops`).
    """

    @property
    def inputs(self) -> Mapping[str, str]:
        """Input name -> Open Inference Protocol datatype (`BYTES`, `FP32`, ...)."""
        ...

    @property
    def outputs(self) -> Mapping[str, str]: ...

    def predict(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Answers a batch: every input is a sequence of n values; every output is a list of n values."""
        ...

    def answer(self, outputs: Mapping[str, list[Any]], index: int) -> dict[str, Any]:
        """The outputs of example `index` as a record for people: answer, citations, score."""
        ...

    def label(self, record: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, float]:
        """Labelled quality of a stored answer record against the truth that feedback brings, by metric name."""
        ...


class DataCode(Protocol):
    """The code of a family that is only data, and the data side of every other."""

    def schemas(self) -> Mapping[str, pa.Schema]:
        """Table -> schema of clean rows (without the columns that the platform adds)."""
        ...

    def deliveries(self, source: Path, reader: str) -> Sequence[Delivery]:
        """What the source offers, oldest first. Raises `DataError` when it is not a source this family knows."""
        ...

    def records(self, delivery: Delivery, max_row_bytes: int) -> Iterator[RawRecord]:
        """The delivery's records, streamed. A longer record than `max_row_bytes` has the problem `too_long`.

        Raises `DataError` for a file that cannot be parsed at all.
        """
        ...

    def slices(self) -> Mapping[str, str]:
        """Slice name -> column of the split table, whose values are the domains that a version knows."""
        ...


class Family(DataCode, Protocol):
    """The code of a family with a model."""

    # Packages -------------------------------------------------------------------------------------------------------
    def export(
        self,
        spec: FamilySpec,
        dataset: DatasetView,
        hyperparameters: Mapping[str, Any],
        checkpoint: Path | None,
        folder: Path,
    ) -> dict[str, Any]:
        """Writes the files of a model package into `folder` and returns facts for the model card (parity, sizes).

        `checkpoint` holds the best weights, in the form that the framework saved them; None exports the model as it is
        before training.
        """
        ...

    def export_baseline(self, name: str, spec: FamilySpec, dataset: DatasetView, folder: Path) -> dict[str, Any]:
        """Writes the package of a baseline (a model without training) that gates and the bootstrap refer to."""
        ...

    def baselines(self) -> Sequence[str]:
        """Names that `export_baseline` knows."""
        ...

    # Evaluation and serving -----------------------------------------------------------------------------------------
    def load(self, folder: Path) -> ModelRuntime:
        """The runtime of a package folder whose digests were already checked."""
        ...

    def evaluate(self, runtime: ModelRuntime, dataset: DatasetView, split: str) -> Examples: ...

    def requests(self, dataset: DatasetView, split: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """(example id, request inputs, truth) for replaying labelled traffic and measuring latency."""
        ...


class LightningFamily(Family, Protocol):
    """A family that Lightning can train."""

    def data_module(
        self, spec: FamilySpec, dataset: DatasetView, hyperparameters: Mapping[str, Any], seed: int
    ) -> LightningDataModule: ...

    def module(self, spec: FamilySpec, dataset: DatasetView, hyperparameters: Mapping[str, Any]) -> LightningModule: ...


@dataclass(frozen=True)
class Arrays:
    """Examples as arrays.

    Attributes:
        features: Shape (n, width).
        targets: What is to be predicted, shape (n,).
        weights: How much each counts, in training and in metrics, shape (n,); None: all the same.
    """

    features: NDArray[np.float32]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, which: NDArray[np.int64]) -> Arrays:
        """These rows, in this order."""
        weights = None if self.weights is None else self.weights[which]
        return Arrays(self.features[which], self.targets[which], weights)


class ArrayFamily(Family, Protocol):
    """A family whose examples are arrays: what both scikit-learn and Keras train on, judged in the same way."""

    def arrays(self, spec: FamilySpec, dataset: DatasetView, split: str) -> Arrays: ...

    def validation_metrics(self, predicted: NDArray[np.float64], arrays: Arrays) -> dict[str, float]:
        """Metrics of predictions (n,) for these examples: of a classifier, the probability of its last class."""
        ...


class SklearnFamily(ArrayFamily, Protocol):
    """A family that scikit-learn can train."""

    def estimator(self, spec: FamilySpec, hyperparameters: Mapping[str, Any], seed: int) -> Any:
        """An estimator that was not fitted, with its random state from `seed`.

        With `warm_start`, an ensemble grows over the epochs to its size; one with `partial_fit` sees all examples once
        an epoch; both are saved after each. Any other is fitted in one go, which is all there is to resume.
        """
        ...


class KerasFamily(ArrayFamily, Protocol):
    """A family that Keras can train."""

    def network(self, spec: FamilySpec, examples: Arrays, hyperparameters: Mapping[str, Any]) -> Any:
        """A compiled model of features (n, width) to one number each; `examples` are those of training."""
        ...


def load_code(reference: str) -> Family:
    """The object that `module:Class` names, of a family with a model."""
    family: Family = _make(reference)
    return family


def load_data_code(reference: str) -> DataCode:
    """The object that `module:Class` names, of any family."""
    code: DataCode = _make(reference)
    return code


def _make(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)()
