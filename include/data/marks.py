"""Marks: 16 bytes that stand for a key, for a row, or for the values of a row, and collections of very many of them.

A mark is the first half of a sha256. Two different values share one with a probability that no feed will ever see
(about 10^-21 among a billion rows), so that "the same mark" may be read as "the same value". Marks travel as numpy
arrays of the type `S16`, which compares and sorts them as bytes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from include.store.scratch import ScratchFolder

Marks = NDArray[np.bytes_]
SIZE = 16
MARKS = f"S{SIZE}"
HELD = 1 << 20  # marks that a collection keeps in memory before it takes the disk: 16 MiB
MERGED = 1 << 22  # marks of the largest run that is merged with others: 64 MiB
_PARTS = 64
_Pairs = NDArray[np.uint64]


def marks_of(values: Iterable[bytes]) -> Marks:
    """The mark of every value."""
    sha256 = hashlib.sha256
    return np.frombuffer(b"".join([sha256(value).digest()[:SIZE] for value in values]), MARKS)


def to_hex(marks: Marks) -> bytes:
    """All marks as lower-case hex digits, 32 for each, without anything between them."""
    return marks.tobytes().hex().encode()


def repeated(marks: Marks) -> NDArray[np.bool_]:
    """Which marks are there more than once."""
    _, places, counts = np.unique(marks, return_inverse=True, return_counts=True)
    found: NDArray[np.bool_] = counts[places] > 1
    return found


class MarkSet:
    """A set of marks that is asked and added to in batches.

    It is kept as sorted runs, merged while they are small; large runs lie in files that are mapped, so that the
    system may drop their pages when memory is short. One writer; not safe for threads.
    """

    def __init__(self) -> None:
        self._runs: list[_Pairs] = []
        self._folder: ScratchFolder | None = None

    def add(self, marks: Marks) -> None:
        """Adds marks, whether they are in it or not."""
        if not len(marks):
            return
        self._runs.append(_sorted(_pairs(marks)))
        while self._mergeable():
            last, before = self._runs.pop(), self._runs.pop()
            self._runs.append(self._placed(_sorted(np.concatenate([before, last], axis=1))))

    def contains(self, marks: Marks) -> NDArray[np.bool_]:
        """Which of `marks` are in it."""
        found = np.zeros(len(marks), dtype=bool)
        if not self._runs or not len(marks):
            return found
        pairs = _pairs(marks)
        order = np.argsort(pairs[0])  # a sorted search walks through a run once
        pairs, hits = pairs[:, order], np.zeros(len(marks), dtype=bool)
        for run in self._runs:
            hits |= _in_run(run, pairs)
        found[order] = hits
        return found

    def _mergeable(self) -> bool:
        """Whether the last run is about as large as the one before: so each mark is moved a few times only."""
        if len(self._runs) < 2:
            return False
        before, last = int(self._runs[-2].shape[1]), int(self._runs[-1].shape[1])
        return last * 2 > before and before + last <= MERGED

    def _placed(self, run: _Pairs) -> _Pairs:
        """The run, in a file where it is large."""
        if run.shape[1] < HELD:
            return run
        if self._folder is None:
            self._folder = ScratchFolder("marks")
        with tempfile.NamedTemporaryFile(dir=self._folder.path, suffix=".npy", delete=False) as file:
            np.save(file, run)
        mapped: _Pairs = np.load(file.name, mmap_mode="r")
        Path(file.name).unlink()  # the mapping keeps it until the last user is gone
        return mapped


class SortedMarks:
    """Marks that are collected in any order and read back sorted; beyond `HELD` they lie on disk, part by part."""

    def __init__(self) -> None:
        self._held: list[Marks] = []
        self._count = 0
        self._folder: ScratchFolder | None = None

    def __enter__(self) -> SortedMarks:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.close()

    def add(self, marks: Marks) -> None:
        """Adds marks; one that is there already is there twice then."""
        self._held.append(marks)
        self._count += len(marks)
        if self._count > HELD:
            self._spill()

    def parts(self) -> Iterator[Marks]:
        """All of them, ascending, in pieces; equal marks are in the same piece."""
        if self._folder is None:
            yield np.sort(_joined(self._held))
            return
        self._spill()
        for part in range(_PARTS):
            path = self._folder.path / str(part)
            if path.exists():
                yield np.sort(np.frombuffer(path.read_bytes(), MARKS))

    def _spill(self) -> None:
        """Appends what is held to the files of the parts; a part is all marks with the same first six bits."""
        if self._folder is None:
            self._folder = ScratchFolder("marks")
        marks = _joined(self._held)
        part = marks.view(np.uint8).reshape(-1, SIZE)[:, 0] >> 2
        order = np.argsort(part, kind="stable")
        ends = np.cumsum(np.bincount(part, minlength=_PARTS))
        for number, some in enumerate(np.split(marks[order], ends[:-1])):
            with (self._folder.path / str(number)).open("ab") as file:
                file.write(some.tobytes())
        self._held, self._count = [], 0


def _joined(marks: list[Marks]) -> Marks:
    return np.concatenate(marks) if marks else np.empty(0, MARKS)


def _pairs(marks: Marks) -> _Pairs:
    """Shape (2, n), the first and the last eight bytes: numbers are searched many times faster than bytes."""
    return np.ascontiguousarray(marks).view(">u8").reshape(-1, 2).T.astype(np.uint64, order="C")


def _sorted(pairs: _Pairs) -> _Pairs:
    ordered: _Pairs = pairs[:, np.argsort(pairs[0])]
    return ordered


def _in_run(run: _Pairs, pairs: _Pairs) -> NDArray[np.bool_]:
    """Which `pairs` a run holds that is sorted by its first row."""
    (high, low), size = run, run.shape[1]
    at = np.searchsorted(high, pairs[0])
    hits = np.zeros(pairs.shape[1], dtype=bool)
    left = np.flatnonzero(at < size)
    while len(left):  # a second turn is needed only where two marks share their first eight bytes
        left = left[high[at[left]] == pairs[0, left]]
        same = low[at[left]] == pairs[1, left]
        hits[left[same]] = True
        left = left[~same]
        at[left] += 1
        left = left[at[left] < size]
    return hits
