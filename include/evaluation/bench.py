"""What the parts of the evaluation share: the contenders' packages, one loaded model at a time, and the seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.evaluation.examples import Place
from include.evaluation.gates import TEST_SPLIT
from include.evaluation.intervals import Interval
from include.families.contract import DatasetView, Family, ModelRuntime, load_code
from include.serving.package import read_package
from include.spec.judging import EvaluationSpec, Operator
from include.spec.probing import UNDER
from include.steps.entry import StepContext
from include.steps.fingerprint import fingerprint

_DOWNWARDS = frozenset({Operator.LT, Operator.LTE})


@dataclass(frozen=True)
class Bench:
    """What the parts of the evaluation share."""

    context: StepContext
    family: Family
    dataset: DatasetView
    digests: Mapping[str, str]
    folders: Mapping[str, Path]
    _loaded: dict[str, ModelRuntime] = field(default_factory=dict, repr=False)

    def runtime(self, name: str) -> ModelRuntime:
        """The loaded package of contender `name`; the last one asked for is kept, so that memory holds one at a
        time."""
        digest = self.digests[name]
        if digest not in self._loaded:
            self._loaded.clear()
            self._loaded[digest] = load_code(read_package(self.folders[digest]).code).load(self.folders[digest])
        return self._loaded[digest]

    @property
    def asked(self) -> EvaluationSpec:
        """What the spec asks for."""
        return self.context.document.model_spec.evaluation

    @property
    def seed(self) -> int:
        """Of all resampling: on the same dataset the same outcomes have the same intervals, in every report."""
        return int(fingerprint(dataset=self.dataset.digest)[:8], 16)

    @property
    def bootstrap(self) -> dict[str, Any]:
        evaluation = self.asked
        return {"confidence": evaluation.confidence, "resamples": evaluation.resamples, "seed": self.seed}

    @property
    def lower_is_better(self) -> frozenset[str]:
        """Metrics such as errors: those that a gate asks to be low."""
        return frozenset(gate.metric.partition(UNDER)[0] for gate in self.asked.gates if gate.operator in _DOWNWARDS)

    def place(self, name: str, split: str = TEST_SPLIT) -> Place:
        """Where the outcomes of contender `name` lie."""
        document = self.context.document
        return Place(document.family, self.dataset.digest, self.digests[name], split, document.code_version)

    def size(self, digest: str) -> int:
        """Bytes of a package."""
        return read_package(self.folders[digest]).size


def difference(interval: Interval) -> dict[str, Any]:
    """The record of a paired difference."""
    record = interval.to_json()
    return {"difference": record.pop("value"), **record}
