"""What serving a trial's model costs: it is exported as the final one is, and asked in the serving runtime."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from include.evaluation.adjust import COST_METRICS
from include.evaluation.performance import cost_summary, measure
from include.families.contract import DatasetView, Family
from include.serving.package import seal
from include.spec.models import FamilySpec
from include.spec.search import SecondSpec

_SPLIT = "validation"  # the test split is for what was chosen
_CONFIDENCE = 0.95  # of an interval that nobody asks for


def is_measured(second: SecondSpec | None) -> bool:
    """Whether the second objective is a cost of serving; else validation gives it."""
    return second is not None and second.metric in COST_METRICS


def serving_cost(
    family: Family,
    spec: FamilySpec,
    dataset: DatasetView,
    hyperparameters: Mapping[str, Any],
    *,
    weights: Path,
    folder: Path,
) -> float:
    """The second objective of the spec's sweep, measured in a process of its own.

    Args:
        weights: The trial's, as its training kept them.
        folder: An empty folder for the package.

    Raises:
        PerformanceError: The validation split has no request, or the process died.
    """
    second = spec.sweep.second
    assert second is not None
    facts = family.export(spec, dataset, hyperparameters, weights, folder)
    package = seal(folder, spec.family, spec.code, facts)
    asked = [inputs for _, inputs, _ in islice(family.requests(dataset, _SPLIT), second.requests)]
    timings = measure({"trial": folder}, asked, second.requests)["trial"]
    return cost_summary(timings, package.size, _CONFIDENCE)[second.metric].value
