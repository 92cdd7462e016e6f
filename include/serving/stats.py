"""What the variants of a routing table did: requests, errors, latency and labelled quality, per generation and role.

A rollout is judged on these numbers, so they are exact counts, not samples: latencies go into a histogram with buckets
3% apart, quality into running sums. The *lane* keeps apart what must not be mixed: `live` answers went to clients,
`shadow` answers went nowhere, `direct` requests chose their version themselves and say nothing about a split.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from include.release.routing import Role, RoutingTable

_FIRST_MS = 0.01
_STEP = math.log(1.03)
_BUCKETS = 640  # 0.01 ms ... about 28 minutes


class Lane(str, Enum):
    """Which way a request took."""

    LIVE = "live"
    SHADOW = "shadow"
    DIRECT = "direct"


class Place(NamedTuple):
    """Where an answer is counted."""

    family: str
    generation: int
    role: Role
    version: str
    digest: str
    lane: Lane


class Histogram:
    """Counts of latencies in buckets 3% apart: a quantile is off by at most 1.5%."""

    __slots__ = ("counts", "total", "total_ms")

    def __init__(self) -> None:
        self.counts = [0] * _BUCKETS
        self.total = 0
        self.total_ms = 0.0

    def add(self, milliseconds: float) -> None:
        index = int(math.log(milliseconds / _FIRST_MS) / _STEP) if milliseconds > _FIRST_MS else 0
        self.counts[min(index, _BUCKETS - 1)] += 1
        self.total += 1
        self.total_ms += milliseconds

    def merge(self, other: Histogram) -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total
        self.total_ms += other.total_ms

    def quantile(self, q: float) -> float | None:
        """The `q` quantile in ms (nearest rank, centre of its bucket); None before the first request."""
        rank = max(1, math.ceil(q * self.total))
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if seen >= rank:
                return float(f"{_FIRST_MS * math.exp((index + 0.5) * _STEP):.4g}")
        return None

    def up_to(self, milliseconds: float) -> int:
        """How many were at most about `milliseconds`."""
        return sum(self.counts[: int(math.log(milliseconds / _FIRST_MS) / _STEP)])


class Moments:
    """Running mean and standard deviation (Welford, 1962)."""

    __slots__ = ("mean", "n", "squares")

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0
        self.squares = 0.0

    def add(self, value: float) -> None:
        self.n += 1
        step = value - self.mean
        self.mean += step / self.n
        self.squares += step * (value - self.mean)

    def to_json(self) -> dict[str, Any]:
        sd = math.sqrt(self.squares / (self.n - 1)) if self.n > 1 else None
        return {"mean": self.mean, "n": self.n, "sd": sd}


@dataclass
class Cell:
    """Counts of one variant in one lane of one generation."""

    place: Place
    requests: int = 0
    errors: int = 0
    labels: int = 0
    latency: Histogram = field(default_factory=Histogram)
    quality: dict[str, Moments] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "errors": self.errors,
            "latency_p50_ms": self.latency.quantile(0.50),
            "latency_p95_ms": self.latency.quantile(0.95),
            "latency_p99_ms": self.latency.quantile(0.99),
            "labels": self.labels,
            "quality": {metric: moments.to_json() for metric, moments in self.quality.items()},
        }


@dataclass
class _Generation:
    table: RoutingTable
    cells: dict[tuple[str, Lane], Cell]  # by version
    paired: dict[str, Moments] = field(default_factory=dict)


class Stats:
    """All counts of a gateway. Thread-safe; the newest `kept` generations of all families are kept apart.

    Counts of older generations are merged into totals per variant, so that what Prometheus reads never shrinks.
    """

    def __init__(self, kept: int = 200) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._generations: OrderedDict[tuple[str, int], _Generation] = OrderedDict()
        self._retired: dict[tuple[str, Role, str, Lane], Cell] = {}

    def open(self, family: str, generation: int, table: RoutingTable) -> None:
        """Makes the cells of a generation, so that it can be asked for before its first request."""
        cells = {
            (variant.version, lane): Cell(
                Place(family, generation, variant.role, variant.version, variant.digest, lane)
            )
            for variant in table.variants
            for lane in Lane
        }
        with self._lock:
            opened = self._generations.setdefault((family, generation), _Generation(table, {}))
            opened.table = table  # it may have been opened without its challenger before
            opened.cells = cells | opened.cells
            while len(self._generations) > self._kept:
                self._retire()

    def record(self, place: Place, latency_ms: float, *, failed: bool) -> None:
        """Counts one request. Failed requests count, but their latency does not: a fast failure is not speed."""
        with self._lock:
            cell = self._cell(place)
            cell.requests += 1
            if failed:
                cell.errors += 1
            else:
                cell.latency.add(latency_ms)

    def label(self, place: Place, metrics: Mapping[str, float], *, truth: bool = True) -> None:
        """Adds quality of one answer; `labels` counts the answers that were held against a truth."""
        with self._lock:
            cell = self._cell(place)
            cell.labels += truth
            _add(cell.quality, metrics)

    def pair(self, place: Place, served: Mapping[str, float], shadow: Mapping[str, float]) -> None:
        """Adds the difference (shadow minus served) on one request that both variants answered."""
        with self._lock:
            generation = self._generations.get((place.family, place.generation))
            if generation is not None:
                _add(generation.paired, {name: shadow[name] - served[name] for name in served.keys() & shadow.keys()})

    def snapshot(self, family: str, generation: int) -> dict[str, Any] | None:
        """The counts of a generation; None where it was never loaded here, or is too old."""
        with self._lock:
            found = self._generations.get((family, generation))
            if found is None:
                return None
            variants = {}
            for variant in found.table.variants:
                live, shadow = found.cells[variant.version, Lane.LIVE], found.cells[variant.version, Lane.SHADOW]
                identity = {"version": variant.version, "digest": variant.digest}
                name = variant.version if found.table.arms else variant.role.value
                variants[name] = {**identity, **live.to_json(), "shadow": shadow.to_json()}
            paired = {metric: moments.to_json() for metric, moments in found.paired.items()}
            return {"stage": found.table.stage, "rollout": found.table.rollout, "variants": variants, "paired": paired}

    def totals(self) -> Iterator[Cell]:
        """Counts per (family, role, version, lane) since the start, over all generations."""
        with self._lock:
            merged: dict[tuple[str, Role, str, Lane], Cell] = {}
            cells = [cell for generation in self._generations.values() for cell in generation.cells.values()]
            for cell in [*self._retired.values(), *cells]:
                _merge(merged, cell)
        yield from merged.values()

    def _cell(self, place: Place) -> Cell:
        generation = self._generations.get((place.family, place.generation))
        if generation is not None:
            return generation.cells[place.version, place.lane]
        key = (place.family, place.role, place.version, place.lane)  # in flight since many generations
        return self._retired.setdefault(key, Cell(place))

    def _retire(self) -> None:
        _, oldest = self._generations.popitem(last=False)
        for cell in oldest.cells.values():
            _merge(self._retired, cell)


def _add(sums: dict[str, Moments], values: Mapping[str, float]) -> None:
    for metric, value in values.items():
        sums.setdefault(metric, Moments()).add(value)


def _merge(into: dict[tuple[str, Role, str, Lane], Cell], cell: Cell) -> None:
    place = cell.place
    target = into.setdefault((place.family, place.role, place.version, place.lane), Cell(place))
    target.requests += cell.requests
    target.errors += cell.errors
    target.labels += cell.labels
    target.latency.merge(cell.latency)
