"""A whole family in a page: questions that name their own answer, and models that know a set share of them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from include.families.contract import Examples
from include.serving.package import publish, seal
from include.spec.models import FamilySpec
from include.store.objects import ObjectStore

FAMILY = "tiny"
CODE = "tests.fakes.tiny_family:TinyFamily"
CONFIG = "model.json"


class TinyDataset:
    """Questions of three documents, `n` in the test split; satisfies `DatasetView`."""

    def __init__(self, n: int = 60, version: str = "1.0.0") -> None:
        self.version = version
        self.digest = hashlib.sha256(f"{version}-{n}".encode()).hexdigest()
        self._sizes = {"train": 2 * n, "test": n, "validation": n // 2}

    def table(self, name: str, split: str | None = None) -> pa.Table:
        size = self._sizes.get(split or "test", 0)
        return pa.table(
            {
                "question_id": [f"{split}-{number}" for number in range(size)],
                "question": [f"what does rule number {number} of the {split} set say" for number in range(size)],
                "document_id": [f"doc{number % 3}" for number in range(size)],
            }
        )


class TinyRuntime:
    """Knows the answer to a `skill` share of all questions; which ones is a matter of its `seed`."""

    inputs: Mapping[str, str] = {"question": "BYTES"}

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.outputs: Mapping[str, str] = dict.fromkeys(config.get("outputs", ["score", "confidence"]), "FP32")

    def predict(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        questions = inputs["question"]
        time.sleep(self.config.get("ms", 0) / 1000 * len(questions))
        if self.config.get("dies"):
            raise SystemExit(3)
        points = [self._point(question) for question in questions]
        answers = [question.upper() if self.knows(question) else "?" for question in questions]
        return {"answer": answers, "score": points, "confidence": points}

    def answer(self, outputs: Mapping[str, list[Any]], index: int) -> dict[str, Any]:
        return {name: values[index] for name, values in outputs.items()}

    def label(self, record: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, float]:
        return {"hit_at_10": float(record["answer"] == truth["answer"])}

    def knows(self, question: str) -> bool:
        return self._point(question) < float(self.config["skill"])

    def _point(self, question: str) -> float:
        text = f"{self.config.get('seed', 0)} {question}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


class TinyFamily:
    """Satisfies the parts of `Family` that evaluation, release and monitoring use."""

    def load(self, folder: Path) -> TinyRuntime:
        return TinyRuntime(json.loads((folder / CONFIG).read_text()))

    def evaluate(self, runtime: TinyRuntime, dataset: TinyDataset, split: str) -> Examples:
        rows = dataset.table("questions", split).to_pylist()
        hits = np.array([float(runtime.knows(row["question"])) for row in rows])
        ids = [row["question_id"] for row in rows]
        return Examples(ids, {"hit_at_1": hits, "map": hits / 2}, {"document": [row["document_id"] for row in rows]})

    def requests(self, dataset: TinyDataset, split: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        for row in dataset.table("questions", split).to_pylist():
            yield row["question_id"], {"question": row["question"]}, {"answer": row["question"].upper()}

    def baselines(self) -> Sequence[str]:
        return ("guess", "half")

    def export_baseline(self, name: str, spec: FamilySpec, dataset: TinyDataset, folder: Path) -> dict[str, Any]:
        (folder / CONFIG).write_text(json.dumps({"skill": 0.1 if name == "guess" else 0.5, "seed": 9}))
        return {"baseline": name}

    def export(
        self,
        spec: FamilySpec,
        dataset: TinyDataset,
        hyperparameters: Mapping[str, Any],
        checkpoint: Path | None,
        folder: Path,
    ) -> dict[str, Any]:
        (folder / CONFIG).write_text(json.dumps({"skill": 0.3, "seed": 9}))
        return {}


def tiny_package(store: ObjectStore, folder: Path, **config: Any) -> str:
    """Publishes a tiny model (`skill`, `seed`, `ms`, `outputs`) and returns its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"skill": 0.9, **config}, sort_keys=True))
    package = seal(folder, FAMILY, CODE, {})
    publish(store, folder)
    return package.digest


def tiny_spec(**changes: Any) -> FamilySpec:
    """A valid spec of the family; `changes` replace whole top-level parts."""
    values: dict[str, Any] = {
        "family": FAMILY,
        "title": "Tiny questions",
        "description": "Knows its own answers.",
        "owner": {"team": "tunnel"},
        "code": CODE,
        "data": {"suite": "tiny", "tables": {"questions": {"key": "question_id"}}},
        "split": {"table": "questions", "by": "question_id", "train": 0.6, "validation": 0.2, "test": 0.2},
        "sweep": {"metric": "hit_at_1", "space": {"lr": {"kind": "float", "low": 0.1, "high": 1.0}}},
        "evaluation": {
            "resamples": 500,
            "latency_requests": 32,
            "gates": [
                {"name": "floor", "metric": "hit_at_1", "operator": "gte", "threshold": 0.5},
                {"name": "beats_guess", "metric": "hit_at_1", "operator": "gt", "reference": "guess"},
                {
                    "name": "holds_champion",
                    "metric": "hit_at_1",
                    "operator": "gte",
                    "reference": "champion",
                    "margin": 0.1,
                },
            ],
        },
        "release": {
            "bootstrap": "guess",
            "stages": [
                {"name": "shadow", "traffic": 0, "shadow": True, "min_seconds": 1, "max_seconds": 60, "min_labels": 0},
                {"name": "canary", "traffic": 0.05, "min_seconds": 1, "max_seconds": 60},
                {"name": "full", "traffic": 1.0, "min_seconds": 1, "max_seconds": 60},
            ],
        },
    }
    return FamilySpec.model_validate({**values, **changes})
