"""A family that takes vectors, flags and counts: every kind of number that a tensor may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from include.serving.package import publish, seal
from include.store.objects import ObjectStore

CODE = "tests.fakes.numbers_family:NumbersFamily"


class NumbersRuntime:
    """Adds up a vector and a count; the batch must be one array, as most models want it."""

    inputs: Mapping[str, str] = {"vector": "FP32", "on": "BOOL", "n": "INT64"}
    outputs: Mapping[str, str] = {"total": "FP64", "doubled": "FP32", "negative": "BOOL"}

    def predict(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        import numpy as np

        vectors = np.asarray(inputs["vector"], dtype=np.float32).reshape(len(inputs["n"]), -1)
        totals = vectors.sum(axis=1, dtype=np.float64) + np.asarray(inputs["n"])
        return {"total": totals.tolist(), "doubled": (vectors * 2).tolist(), "negative": (totals < 0).tolist()}

    def answer(self, outputs: Mapping[str, list[Any]], index: int) -> dict[str, Any]:
        return {"total": outputs["total"][index]}

    def label(self, record: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, float]:
        return {"right": float(record["total"] == truth["total"])}


class NumbersFamily:
    """Only the serving half of a family."""

    def load(self, folder: Path) -> NumbersRuntime:
        return NumbersRuntime()


def numbers_package(store: ObjectStore, folder: Path, family: str = "numbers") -> str:
    """Publishes the model and returns its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "numbers.json").write_text("{}")
    package = seal(folder, family, CODE, {})
    publish(store, folder)
    return package.digest
