"""What is counted of a variant's answers, and how counts of several processes are added up. Pure.

Latencies go into a histogram with buckets 3% apart, quality into running moments: both can be added, so that the sum
over processes says exactly what one process would have said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from include.release.routing import Role, RoutingTable

BUCKETS = 640  # 0.01 ms ... about 28 minutes
_FIRST_MS = 0.01
_STEP = math.log(1.03)


class Lane(str, Enum):
    """Which way a request took."""

    LIVE = "live"
    SHADOW = "shadow"
    DIRECT = "direct"


class Place(NamedTuple):
    """Where an answer is counted. Generation 0 stands for all generations that are no longer kept apart."""

    family: str
    generation: int
    role: Role
    version: str
    digest: str
    lane: Lane


def bucket(milliseconds: float) -> int:
    """The bucket of the histogram that a latency falls into."""
    if milliseconds <= _FIRST_MS:
        return 0
    return min(int(math.log(milliseconds / _FIRST_MS) / _STEP), BUCKETS - 1)


class Histogram:
    """Counts of latencies in buckets 3% apart: a quantile is off by at most 1.5%."""

    __slots__ = ("counts", "total_ms")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.total_ms = 0.0

    @property
    def total(self) -> int:
        return sum(self.counts)

    def add(self, milliseconds: float) -> None:
        self.counts[bucket(milliseconds)] += 1
        self.total_ms += milliseconds

    def merge(self, other: Histogram) -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
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
    """Running mean and standard deviation (Welford, 1962), and their sum over parts (Chan, Golub, LeVeque, 1979)."""

    __slots__ = ("mean", "n", "squares")

    def __init__(self, n: int = 0, mean: float = 0.0, squares: float = 0.0) -> None:
        self.n = n
        self.mean = mean
        self.squares = squares

    def add(self, value: float) -> None:
        self.merge(Moments(1, value))

    def merge(self, other: Moments) -> None:
        if not other.n:
            return
        n = self.n + other.n
        step = other.mean - self.mean
        self.mean += step * other.n / n
        self.squares += other.squares + step * step * self.n * other.n / n
        self.n = n

    def to_json(self) -> dict[str, Any]:
        sd = math.sqrt(self.squares / (self.n - 1)) if self.n > 1 else None
        return {"mean": self.mean, "n": self.n, "sd": sd}


@dataclass
class Cell:
    """Counts of one variant in one lane of one generation.

    Attributes:
        crashes: Deaths of a process that had a request of the variant under way.
    """

    place: Place
    requests: int = 0
    errors: int = 0
    labels: int = 0
    crashes: int = 0
    latency: Histogram = field(default_factory=Histogram)
    quality: dict[str, Moments] = field(default_factory=dict)

    def merge(self, other: Cell) -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.labels += other.labels
        self.crashes += other.crashes
        self.latency.merge(other.latency)
        _merge_moments(self.quality, other.quality)

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "errors": self.errors,
            "crashes": self.crashes,
            "latency_p50_ms": self.latency.quantile(0.50),
            "latency_p95_ms": self.latency.quantile(0.95),
            "latency_p99_ms": self.latency.quantile(0.99),
            "labels": self.labels,
            "quality": {metric: moments.to_json() for metric, moments in self.quality.items()},
        }


@dataclass
class GenerationCounts:
    """All counts of one generation of a family's routing table.

    Attributes:
        cells: By version and lane; a variant that was never asked may be missing.
        paired: Metric -> shadow minus served, over requests that both variants answered.
    """

    cells: dict[tuple[str, Lane], Cell] = field(default_factory=dict)
    paired: dict[str, Moments] = field(default_factory=dict)

    def merge(self, other: GenerationCounts) -> None:
        for key, cell in other.cells.items():
            self.cells.setdefault(key, Cell(cell.place)).merge(cell)
        _merge_moments(self.paired, other.paired)

    def to_json(self, table: RoutingTable) -> dict[str, Any]:
        """What `/v1/stats` shows of it, for every variant of `table`."""
        variants = {}
        for variant in table.variants:
            place = Place("", 0, variant.role, variant.version, variant.digest, Lane.LIVE)
            live, shadow = (self.cells.get((variant.version, lane), Cell(place)) for lane in (Lane.LIVE, Lane.SHADOW))
            identity = {"version": variant.version, "digest": variant.digest}
            name = variant.version if table.arms else variant.role.value
            variants[name] = {**identity, **live.to_json(), "shadow": shadow.to_json()}
        paired = {metric: moments.to_json() for metric, moments in self.paired.items()}
        return {"stage": table.stage, "rollout": table.rollout, "variants": variants, "paired": paired}

    def to_record(self) -> dict[str, Any]:
        """Everything, so that `from_record` gives the same counts again."""
        cells = [
            {
                **cell.place._asdict(),
                "requests": cell.requests,
                "errors": cell.errors,
                "crashes": cell.crashes,
                "labels": cell.labels,
                "total_ms": cell.latency.total_ms,
                "latencies": {str(index): count for index, count in enumerate(cell.latency.counts) if count},
                "quality": _moments_record(cell.quality),
            }
            for cell in self.cells.values()
        ]
        return {"cells": cells, "paired": _moments_record(self.paired)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> GenerationCounts:
        """Counts from a record. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
        found = cls(paired=_moments_from(record["paired"]))
        for row in record["cells"]:
            lane = Lane(row["lane"])
            place = Place(row["family"], row["generation"], Role(row["role"]), row["version"], row["digest"], lane)
            cell = Cell(place, row["requests"], row["errors"], row["labels"], row.get("crashes", 0))
            cell.quality = _moments_from(row["quality"])
            for index, count in row["latencies"].items():
                cell.latency.counts[int(index)] = count
            cell.latency.total_ms = row["total_ms"]
            found.cells[place.version, lane] = cell
        return found


def _merge_moments(into: dict[str, Moments], more: Mapping[str, Moments]) -> None:
    for metric, moments in more.items():
        into.setdefault(metric, Moments()).merge(moments)


def _moments_record(values: Mapping[str, Moments]) -> dict[str, list[float]]:
    return {metric: [moments.n, moments.mean, moments.squares] for metric, moments in values.items()}


def _moments_from(record: Mapping[str, Any]) -> dict[str, Moments]:
    return {metric: Moments(int(n), mean, squares) for metric, (n, mean, squares) in record.items()}
