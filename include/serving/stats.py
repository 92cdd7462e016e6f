"""Counts the answers of this process in memory that all processes of the gateway share, and reads the sum over them.

A rollout is judged on these numbers, so they are exact counts, not samples. The *lane* keeps apart what must not be
mixed: `live` answers went to clients, `shadow` answers went nowhere, `direct` requests chose their version themselves
and say nothing about a split.

A request is counted when it begins and when it ends. What had begun and not ended when a process was killed failed,
and is counted as errors, and once as a crash, by the process that takes its place: a model that takes the process along
is one that fails, and worse.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from include.release.routing import Role
from include.serving.shared import OwnRecords, Records, SharedMemoryError, Words, shared_memory
from include.serving.tally import BUCKETS, Cell, GenerationCounts, Lane, Moments, Place, bucket

log = logging.getLogger(__name__)

_BEGUN, _REQUESTS, _ERRORS, _CRASHES, _LABELS, _TOTAL_MS, _FIRST_BUCKET = range(7)  # words of a cell
_N, _MEAN, _SQUARES = range(3)  # words of moments
_CELL_WORDS, _MOMENT_WORDS = _FIRST_BUCKET + BUCKETS, 3
_CELLS, _MOMENTS = 2048, 4096
_SEP = "\x1f"
_QUALITY, _PAIRED, _OPENED = "quality", "paired", "opened"
_METRIC_CHARACTERS = 60


class CountMemory(NamedTuple):
    """The piece of memory that one process counts in."""

    cells: memoryview
    moments: memoryview

    @classmethod
    def make(cls) -> CountMemory:
        """Memory for processes that are forked after this."""
        return cls(
            shared_memory(Records.size(_CELLS, _CELL_WORDS)), shared_memory(Records.size(_MOMENTS, _MOMENT_WORDS))
        )


class Stats:
    """The counts of a gateway. Thread-safe; the newest `kept` generations of all families are kept apart.

    Counts of older generations go into totals per variant, so that what Prometheus reads never shrinks.

    Args:
        memory: What each process of the gateway counts in; by default, this is the only process.
        own: Which of them is this process'.
    """

    def __init__(self, memory: Sequence[CountMemory] = (), own: int = 0, kept: int = 200) -> None:
        memory = memory or [CountMemory.make()]
        self._kept = kept
        self._lock = threading.Lock()
        self._cells = OwnRecords(memory[own].cells, _CELLS, _CELL_WORDS)
        self._moments = OwnRecords(memory[own].moments, _MOMENTS, _MOMENT_WORDS)
        self._readers = [
            (Records(one.cells, _CELLS, _CELL_WORDS), Records(one.moments, _MOMENTS, _MOMENT_WORDS)) for one in memory
        ]
        self._own = own
        self._words: dict[Place, Words] = {}
        self._measured: set[tuple[str, int]] = set()
        self._opened: dict[tuple[str, int], None] = {}  # oldest first
        self._take_over()

    def open(self, family: str, generation: int, resident_mb: float = 0.0) -> None:
        """Makes a generation known, so that it can be asked for before its first request.

        Args:
            resident_mb: Memory of this process at this moment; where it opened the generation before, that stays.
        """
        with self._lock:
            new = (family, generation) not in self._opened
            while new and self._opened and (len(self._opened) >= self._kept or self._moments.full):
                self._retire()
            if (family, generation) not in self._measured:
                self._moments.make(_key(family, generation, _OPENED)).floats[_MEAN] = resident_mb
                self._measured.add((family, generation))
            self._opened[family, generation] = None

    def begin(self, place: Place) -> None:
        """Notes that a request is on its way; `record` or `withdraw` must follow."""
        with self._lock:
            self._cell(place).ints[_BEGUN] += 1

    def withdraw(self, place: Place) -> None:
        """Takes `begin` back: the request did not reach the model."""
        with self._lock:
            self._cell(place).ints[_BEGUN] -= 1

    def record(self, place: Place, latency_ms: float, *, failed: bool) -> None:
        """Counts a request that began. Failed ones count, but their latency does not: a fast failure is not speed."""
        with self._lock:
            cell = self._cell(place)
            cell.ints[_REQUESTS] += 1
            if failed:
                cell.ints[_ERRORS] += 1
            else:
                cell.ints[_FIRST_BUCKET + bucket(latency_ms)] += 1
                cell.floats[_TOTAL_MS] += latency_ms

    def label(self, place: Place, metrics: Mapping[str, float], *, truth: bool = True) -> None:
        """Adds quality of one answer; `labels` counts the answers that were held against a truth."""
        with self._lock:
            self._cell(place).ints[_LABELS] += truth
            self._add(place, (_QUALITY, place.version, place.lane.value), metrics)

    def pair(self, place: Place, served: Mapping[str, float], shadow: Mapping[str, float]) -> None:
        """Adds the difference (shadow minus served) on one request that both variants answered."""
        with self._lock:
            if (place.family, place.generation) in self._opened:
                both = served.keys() & shadow.keys()
                self._add(place, (_PAIRED,), {name: shadow[name] - served[name] for name in both})

    def counts(self, family: str, generation: int) -> list[GenerationCounts | None]:
        """The counts of a generation in each process; None where it was never opened, or is too old."""
        return [_read(cells, moments, family, generation) for cells, moments in self._readers]

    def own_counts(self, family: str, generation: int) -> GenerationCounts | None:
        """The counts of a generation in this process."""
        return _read(*self._readers[self._own], family, generation)

    def opened_mb(self, family: str, generation: int) -> dict[int, float]:
        """By process that opened the generation, its memory at that moment."""
        key = _key(family, generation, _OPENED)
        found = {slot: moments.items(key) for slot, (_, moments) in enumerate(self._readers)}
        return {slot: rows[0][1].floats[_MEAN] for slot, rows in found.items() if rows}

    def tally(self, name: str, label: str, more: int) -> None:
        """Adds to a number that is kept per label over all processes, and belongs to no generation."""
        with self._lock:
            if more:
                try:
                    self._moments.make(_key("", 0, name, label)).ints[_N] += more
                except SharedMemoryError as error:  # clients may come from any number of addresses
                    log.debug("%s of %s is not counted: %s", name, label, error)

    def tallies(self, name: str) -> dict[str, int]:
        """Those numbers by label, summed over all processes."""
        found: dict[str, int] = {}
        for _, moments in self._readers:
            for key, words in moments.items(_key("", 0, name, "")):
                label = key.split(_SEP, 3)[3]
                found[label] = found.get(label, 0) + words.ints[_N]
        return found

    def opened(self) -> list[tuple[str, int]]:
        """The generations that this process keeps apart, oldest first."""
        with self._lock:
            return list(self._opened)

    def totals(self) -> Iterator[Cell]:
        """Counts per (family, role, version, lane) since the gateway's start, over all generations and processes."""
        merged: dict[tuple[str, Role, str, Lane], Cell] = {}
        for cells, _ in self._readers:
            for key, words in cells.items():
                cell = _cell(_place(key), words)
                place = cell.place
                merged.setdefault((place.family, place.role, place.version, place.lane), Cell(place)).merge(cell)
        yield from merged.values()

    def _cell(self, place: Place) -> Words:
        found = self._words.get(place)
        if found is None:
            while self._cells.full:
                self._make_room()
            if (place.family, place.generation) not in self._opened:  # in flight since many generations
                return self._cells.make(_place_key(place._replace(generation=0)))
            found = self._words[place] = self._cells.make(_place_key(place))
        return found

    def _make_room(self) -> None:
        if self._opened:
            self._retire()
        else:  # only totals are left: forget the variant that came first
            self._cells.remove([self._cells.oldest()])

    def _add(self, place: Place, kind: tuple[str, ...], values: Mapping[str, float]) -> None:
        if (place.family, place.generation) not in self._opened:
            return
        for metric, value in values.items():
            key = _key(place.family, place.generation, *kind, metric[:_METRIC_CHARACTERS])
            try:
                words = self._moments.make(key)
            except SharedMemoryError as error:  # a family with endless names of metrics must not fail its feedback
                log.warning("%s is not counted: %s", metric, error)
                continue
            moments = Moments(words.ints[_N], words.floats[_MEAN], words.floats[_SQUARES])
            moments.add(value)
            words.floats[_SQUARES], words.floats[_MEAN], words.ints[_N] = moments.squares, moments.mean, moments.n

    def _retire(self) -> None:
        """Moves the oldest generation into the totals."""
        family, generation = next(iter(self._opened))
        prefix = _key(family, generation, "")
        own_cells, own_moments = self._readers[self._own]
        cells = own_cells.items(prefix)
        self._opened.pop((family, generation))
        self._words = {place: words for place, words in self._words.items() if place[:2] != (family, generation)}
        with self._cells.changing():
            self._cells.remove([key for key, _ in cells])
            for key, words in cells:
                total = self._cells.make(_place_key(_place(key)._replace(generation=0)))
                for number in range(_CELL_WORDS):
                    if number != _TOTAL_MS:
                        total.ints[number] += words.ints[number]
                total.floats[_TOTAL_MS] += words.floats[_TOTAL_MS]
        with self._moments.changing():
            self._moments.remove([key for key, _ in own_moments.items(prefix)])

    def _take_over(self) -> None:
        """Goes on from what the process before this one had counted in the same memory."""
        own_cells, own_moments = self._readers[self._own]
        suffix = f"{_SEP}{_OPENED}"
        for key, _ in own_moments.items():
            if key.endswith(suffix):
                family, generation = key[: -len(suffix)].split(_SEP)
                self._opened[family, int(generation)] = None
        for key, _ in own_cells.items():
            words = self._cells.make(key)
            lost = words.ints[_BEGUN] - words.ints[_REQUESTS]
            words.ints[_REQUESTS] += lost
            words.ints[_ERRORS] += lost
            words.ints[_CRASHES] += lost > 0


def _key(family: str, generation: int, *rest: str) -> str:
    return _SEP.join((family, str(generation), *rest))


def _place_key(place: Place) -> str:
    return _key(place.family, place.generation, place.role.value, place.version, place.digest, place.lane.value)


def _place(key: str) -> Place:
    family, generation, role, version, digest, lane = key.split(_SEP)
    return Place(family, int(generation), Role(role), version, digest, Lane(lane))


def _cell(place: Place, words: Words) -> Cell:
    counts = words.ints
    cell = Cell(place, counts[_REQUESTS], counts[_ERRORS], counts[_LABELS], counts[_CRASHES])
    cell.latency.counts = list(words.ints[_FIRST_BUCKET:])
    cell.latency.total_ms = words.floats[_TOTAL_MS]
    return cell


def _read(cells: Records, moments: Records, family: str, generation: int) -> GenerationCounts | None:
    rows = moments.items(_key(family, generation, ""))
    if not rows:
        return None
    found = GenerationCounts()
    for key, words in cells.items(_key(family, generation, "")):
        cell = _cell(_place(key), words)
        found.cells[cell.place.version, cell.place.lane] = cell
    for key, words in rows:
        kind, *rest = key.split(_SEP)[2:]
        one = Moments(words.ints[_N], words.floats[_MEAN], words.floats[_SQUARES])
        if kind == _PAIRED:
            found.paired[rest[0]] = one
        elif kind == _QUALITY and (judged := found.cells.get((rest[0], Lane(rest[1])))):
            judged.quality[rest[2]] = one
    return found
