"""Outcomes per example, computed once per (package, dataset, split, code) and kept as parquet in the object store.

A champion and the baselines meet every new candidate again on the same examples; what they did there does not change
and is read back. The code version is part of the key, because other code may compute a metric in another way.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from include.errors import DataError
from include.evaluation.intervals import Floats
from include.evaluation.performance import columns
from include.families.contract import DatasetView, Examples, Family, ModelRuntime
from include.store.objects import ObjectStore

_METRIC, _SLICE = "metric:", "slice:"
_BATCH = 16


@dataclass(frozen=True)
class Place:
    """Where the outcomes of one package on one split lie."""

    family: str
    dataset_digest: str
    package_digest: str
    split: str
    code_version: str

    @property
    def _prefix(self) -> str:
        return f"evaluations/{self.family}/{self.dataset_digest[:20]}/{self.package_digest[:20]}/{self.code_version}"

    @property
    def examples_key(self) -> str:
        return f"{self._prefix}/{self.split}-examples.parquet"

    @property
    def answers_key(self) -> str:
        return f"{self._prefix}/{self.split}-answers.parquet"


def load_examples(store: ObjectStore, place: Place) -> Examples | None:
    """The stored outcomes, or None where they were not computed yet."""
    if not store.exists(place.examples_key):
        return None
    table = _read(store, place.examples_key)
    metrics = {
        name.removeprefix(_METRIC): table[name].to_numpy() for name in table.column_names if name.startswith(_METRIC)
    }
    slices = {
        name.removeprefix(_SLICE): table[name].to_pylist() for name in table.column_names if name.startswith(_SLICE)
    }
    return Examples(table["id"].to_pylist(), metrics, slices)


def save_examples(store: ObjectStore, place: Place, examples: Examples) -> None:
    """Keeps the outcomes for the next evaluation."""
    arrays: dict[str, Any] = {"id": pa.array([str(example) for example in examples.ids], pa.string())}
    for name, values in examples.metrics.items():
        arrays[f"{_METRIC}{name}"] = pa.array(np.asarray(values, dtype=np.float64))
    for name, labels in examples.slices.items():
        arrays[f"{_SLICE}{name}"] = pa.array([str(label) for label in labels], pa.string())
    _write(store, place.examples_key, pa.table(arrays))


def check_examples(examples: Examples, what: str) -> Examples:
    """`examples`, if they are a well-formed result.

    Raises:
        DataError: There is none, ids repeat, or a metric or slice has another length.
    """
    n = len(examples.ids)
    if n == 0:
        raise DataError("there is no example to evaluate on", where=what, hint="is the split empty?")
    if len(set(examples.ids)) != n:
        raise DataError("example ids are not unique", where=what, hint="the family's `evaluate` must name each once")
    lengths = {name: len(values) for name, values in examples.metrics.items()}
    lengths |= {name: len(labels) for name, labels in examples.slices.items()}
    for name, length in lengths.items():
        if length != n:
            raise DataError(f"{name!r} has {length} values for {n} examples", where=what)
    if not examples.metrics:
        raise DataError("the family's evaluation gave no metric", where=what)
    return examples


def aligned(examples: Examples, ids: Sequence[str]) -> dict[str, Floats]:
    """The metrics of `examples` in the order of `ids`.

    Raises:
        DataError: The two were not evaluated on the same examples.
    """
    place = {example: index for index, example in enumerate(examples.ids)}
    if len(place) != len(ids) or not all(example in place for example in ids):
        raise DataError(
            "a comparison needs the same examples on both sides",
            hint="evaluate the reference again on this dataset version",
            left=len(ids),
            right=len(place),
        )
    order = np.asarray([place[example] for example in ids])
    return {name: np.asarray(values, dtype=np.float64)[order] for name, values in examples.metrics.items()}


def save_answers(store: ObjectStore, place: Place, family: Family, runtime: ModelRuntime, dataset: DatasetView) -> str:
    """Keeps what the model answers on the split, as the reference that live answers are later compared with.

    One row per example: `id`, `inputs` (JSON) and `outputs` (JSON: the numbers of the answer record). Returns the key.
    """
    if not store.exists(place.answers_key):
        ids, inputs, outputs = [], [], []
        for example, request, record in _answers(family, runtime, dataset, place.split):
            ids.append(example)
            inputs.append(json.dumps(request))
            outputs.append(json.dumps(numbers_of(record)))
        text = {"id": ids, "inputs": inputs, "outputs": outputs}
        _write(
            store, place.answers_key, pa.table({name: pa.array(values, pa.string()) for name, values in text.items()})
        )
    return place.answers_key


def load_answers(store: ObjectStore, key: str) -> list[dict[str, Any]]:
    """Rows of `save_answers`: `id`, `inputs`, `outputs`."""
    rows = _read(store, key).to_pylist()
    return [
        {"id": row["id"], "inputs": json.loads(row["inputs"]), "outputs": json.loads(row["outputs"])} for row in rows
    ]


def answered_numbers(store: ObjectStore, key: str, name: str, ids: Sequence[str]) -> Floats:
    """The number `name` of every stored answer, in the order of `ids`.

    Raises:
        DataError: An example has no answer, or an answer no such number.
    """
    found = {row["id"]: row["outputs"].get(name) for row in load_answers(store, key)}
    missing = [example for example in ids if found.get(example) is None]
    if missing:
        known = sorted({number for row in load_answers(store, key)[:1] for number in row["outputs"]})
        raise DataError(
            f"{len(missing)} of {len(ids)} answers say no {name!r}, the first is that to example {missing[0]}",
            where="evaluation.selective.confidence",
            hint=f"numbers of an answer: {', '.join(known) or '(none)'}",
        )
    return np.asarray([found[example] for example in ids], dtype=np.float64)


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of an answer record, such as its score and its confidence."""
    numbers = {name: float(value) for name, value in record.items() if isinstance(value, (int, float, np.number))}
    return {name: value for name, value in numbers.items() if np.isfinite(value)}


def _answers(
    family: Family, runtime: ModelRuntime, dataset: DatasetView, split: str
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    requests = ((example, inputs) for example, inputs, _ in family.requests(dataset, split))
    for batch in _batches(requests):
        outputs = runtime.predict(columns([inputs for _, inputs in batch]))
        for index, (example, inputs) in enumerate(batch):
            yield example, inputs, runtime.answer(outputs, index)


def _batches(requests: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    batch: list[tuple[str, dict[str, Any]]] = []
    for request in requests:
        batch.append(request)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(store: ObjectStore, key: str) -> pa.Table:
    return pq.read_table(io.BytesIO(store.get(key)))


def _write(store: ObjectStore, key: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    store.put(key, buffer.getvalue())
