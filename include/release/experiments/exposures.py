"""Who met which variant, and what came of it: the gateway's prediction log, read for one experiment.

A unit enters with its first answer. Its answers count for as long as the design watches it, their labels for as long
as a label may take, and the unit itself once both are over: from then on nothing about it changes, so that what was
counted once is never counted differently. That is what makes a look at any time an honest one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from include.release.experiments.analysis import AnalysisInput, MetricSums
from include.release.experiments.design import ERROR, HELPFUL, LATENCY, Design
from include.release.experiments.estimate import Sums
from include.serving.predictions import read_feedback, read_predictions
from include.store.objects import ObjectStore

Assign = Callable[[str], str]


@dataclass
class _Unit:
    """A unit's first answer and what it met."""

    first: datetime
    versions: set[str] = field(default_factory=set)


@dataclass
class _Tally:
    """Totals and counts of every metric per unit, over the answers that count."""

    totals: dict[str, dict[str, float]] = field(default_factory=dict)  # metric -> unit -> total
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    shares: dict[str, bool] = field(default_factory=dict)  # metric -> every value lies between 0 and 1

    def add(self, metric: str, unit: str, value: float) -> None:
        totals, counts = self.totals.setdefault(metric, {}), self.counts.setdefault(metric, {})
        totals[unit] = totals.get(unit, 0.0) + value
        counts[unit] = counts.get(unit, 0) + 1
        self.shares[metric] = self.shares.get(metric, True) and 0.0 <= value <= 1.0

    def means(self, metric: str) -> dict[str, float]:
        counts = self.counts.get(metric, {})
        return {unit: total / counts[unit] for unit, total in self.totals.get(metric, {}).items()}


def observe(
    store: ObjectStore,
    design: Design,
    *,
    generation: int,
    assigned: Assign,
    started: datetime,
    ended: datetime | None,
    at: datetime,
) -> AnalysisInput:
    """What is known of the experiment `at` this moment, as the analysis takes it.

    Args:
        generation: Of the routing table that split the traffic.
        assigned: Unit -> version that it is assigned to.
        ended: When the traffic was taken back; None while it is split.

    Raises:
        PredictionLogError: A segment is damaged.
        StoreError: The store cannot be read.
    """
    until = min(at, ended) if ended else at
    units = _units(store, design, generation, started, at)
    faithful = {name: unit for name, unit in units.items() if len(unit.versions) == 1}
    ripe = timedelta(seconds=design.ripe_seconds)
    known = {name: unit for name, unit in faithful.items() if unit.first + ripe <= at}
    during = _outcomes(store, design, started, at, _counting(design, generation, known))
    before = _Tally()
    if design.cuped:
        back = started - timedelta(days=design.lookback_days)
        before = _outcomes(store, design, back, started, lambda row, _: row["unit_id"] in known)
    exposed, ripened = dict.fromkeys(design.weights, 0), dict.fromkeys(design.weights, 0)
    for name, unit in faithful.items():
        (version,) = unit.versions
        exposed[version] = exposed.get(version, 0) + 1
        ripened[version] = ripened.get(version, 0) + (name in known)
    minutes = math.floor(max(0.0, (until - started).total_seconds()) / 60.0)
    return AnalysisInput(
        design=design,
        days=round(minutes / 1440.0, 6),
        exposed=exposed,
        ripe=ripened,
        crossed=len(units) - len(faithful),
        strayed=sum(unit.versions != {assigned(name)} for name, unit in units.items()),
        metrics={
            metric.name: MetricSums(
                share=during.shares.get(metric.name, False), variants=_sums(metric.name, known, during, before)
            )
            for metric in design.metrics
        },
    )


def _units(store: ObjectStore, design: Design, generation: int, started: datetime, at: datetime) -> dict[str, _Unit]:
    found: dict[str, _Unit] = {}
    for row in read_predictions(store, design.family, started, at):
        if not _is_exposure(row, generation):
            continue
        moment = datetime.fromisoformat(row["at"])
        unit = found.setdefault(row["unit_id"], _Unit(moment))
        unit.first = min(unit.first, moment)  # several gateways write in an order of their own
        unit.versions.add(row["version"])
    return found


def _is_exposure(row: Mapping[str, Any], generation: int) -> bool:
    """Whether the split decided on this answer, and the unit saw it."""
    return row["generation"] == generation and not row["shadow"] and not row["direct"]


def _counting(
    design: Design, generation: int, known: Mapping[str, _Unit]
) -> Callable[[Mapping[str, Any], datetime], bool]:
    watched = timedelta(seconds=design.watch_seconds)

    def counts(row: Mapping[str, Any], moment: datetime) -> bool:
        unit = known.get(row["unit_id"])
        return unit is not None and _is_exposure(row, generation) and moment <= unit.first + watched

    return counts


def _outcomes(
    store: ObjectStore,
    design: Design,
    since: datetime,
    until: datetime,
    counts: Callable[[Mapping[str, Any], datetime], bool],
) -> _Tally:
    """Metrics of the answers that count, per unit."""
    tally, answers = _Tally(), dict[str, tuple[str, datetime]]()
    wanted = {metric.name for metric in design.metrics}
    for row in read_predictions(store, design.family, since, until):
        moment = datetime.fromisoformat(row["at"])
        if row["shadow"] or row["direct"] or not counts(row, moment):
            continue
        answers[row["request_id"]] = (row["unit_id"], moment)
        if ERROR in wanted:
            tally.add(ERROR, row["unit_id"], float(row["error"] is not None))
        if LATENCY in wanted and row["error"] is None:
            tally.add(LATENCY, row["unit_id"], float(row["latency_ms"]))
    delay = timedelta(seconds=design.label_delay_seconds)
    for row in read_feedback(store, design.family, since, until):
        found = answers.get(row["request_id"])
        if found is None or datetime.fromisoformat(row["at"]) > found[1] + delay:
            continue
        values = dict(row["labels"])
        if row["helpful"] is not None:
            values[HELPFUL] = float(row["helpful"])
        for metric in wanted & values.keys():
            tally.add(metric, found[0], float(values[metric]))
    return tally


def _sums(metric: str, known: Mapping[str, _Unit], during: _Tally, before: _Tally) -> dict[str, Sums]:
    """Per variant; a unit that is not known from before gets the mean of those that are, which says nothing."""
    totals, counts, covariate = during.totals.get(metric, {}), during.counts.get(metric, {}), before.means(metric)
    usual = math.fsum(covariate.values()) / len(covariate) if covariate else 0.0
    groups: dict[str, list[tuple[float, float, float]]] = {}
    for unit, total in totals.items():
        (version,) = known[unit].versions
        groups.setdefault(version, []).append((total, counts[unit], covariate.get(unit, usual)))
    return {version: Sums.of(*np.asarray(rows, dtype=np.float64).T) for version, rows in sorted(groups.items())}
