"""Metrics per slice: the same estimate and interval for every group of examples, such as the questions of one document.

An overall mean can hide a document on which the model is useless. Groups with few examples are kept and marked, because
their wide intervals say exactly that; how many groups a report shows is bounded, the smallest are left out first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from include.errors import UserError
from include.evaluation.intervals import Floats, mean_interval

#: A group with fewer examples is marked `few`.
FEW = 20
MAX_GROUPS = 100


def slice_report(
    metrics: Mapping[str, Floats],
    labels: Sequence[str],
    *,
    confidence: float,
    resamples: int,
    seed: int,
    bounds: Mapping[str, tuple[float, float] | None],
) -> dict[str, Any]:
    """Intervals of every metric in every group.

    Args:
        metrics: Metric -> value per example, shape (n,).
        labels: Group of each example, length n.

    Returns:
        `groups`: group -> {`n`, `few`, `metrics`: metric -> interval record}, the largest first; `left_out`: groups
            that
        are not shown.
    """
    names, index, counts = np.unique(np.asarray(labels, dtype=str), return_inverse=True, return_counts=True)
    order = sorted(range(len(names)), key=lambda group: (-int(counts[group]), str(names[group])))
    groups: dict[str, Any] = {}
    for group in order[:MAX_GROUPS]:
        mask = index == group
        groups[str(names[group])] = {
            "n": int(counts[group]),
            "few": bool(counts[group] < FEW),
            "metrics": {
                metric: mean_interval(
                    values[mask], confidence=confidence, resamples=resamples, seed=seed, bounds=bounds[metric]
                ).to_json()
                for metric, values in metrics.items()
            },
        }
    return {"groups": groups, "left_out": max(0, len(names) - MAX_GROUPS)}


def worst_groups(report: Mapping[str, Any], metric: str, count: int = 5) -> list[tuple[str, dict[str, Any]]]:
    """The groups that do worst on `metric`, judged by the upper end of the interval: surely bad before perhaps bad."""
    rows = [(name, group) for name, group in report["groups"].items() if metric in group["metrics"]]
    return sorted(rows, key=lambda row: (row[1]["metrics"][metric]["high"], row[0]))[:count]


def check_slices(asked: Sequence[str], known: Mapping[str, Sequence[str]], where: str = "evaluation.slices") -> None:
    """Raises `UserError` where the spec asks for a slice that the family's evaluation does not give."""
    for name in asked:
        if name not in known:
            raise UserError(
                f"there is no slice {name!r}",
                where=where,
                hint=f"the family gives: {', '.join(sorted(known)) or '(none)'}",
            )
