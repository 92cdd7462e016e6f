"""Memory that the processes of a gateway share: records of numbers under text keys.

Every process has a piece that it alone writes, and reads those of the others without a lock: a number is one aligned
machine word, so a reader may see one request half counted, never a number that was not there. What a killed process
had written stays, and the process that takes its place goes on from there.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from include.errors import WindtunnelError

_WORD = 8
_HEADER_WORDS = 8
_USED, _CHANGES = 0, 1  # words of the header: records ever used; odd while records are being removed
_KEY_BYTES = 376
_READ_ATTEMPTS = 100


class SharedMemoryError(WindtunnelError):
    """A record does not fit."""


@dataclass(frozen=True, slots=True)
class Words:
    """The numbers of a record, as integers and as floats; which word is what is the owner's affair."""

    ints: memoryview[int]
    floats: memoryview[float]


def shared_memory(size: int) -> memoryview:
    """Zeroed memory that processes forked after this share. Pages that nobody touches cost nothing."""
    return memoryview(mmap.mmap(-1, size))


class Records:
    """Up to `capacity` records of `words` numbers each in `memory`, as any process may read them."""

    def __init__(self, memory: memoryview, capacity: int, words: int) -> None:
        self._memory = memory
        self._capacity = capacity
        self._words = words
        self._header = memory[: _HEADER_WORDS * _WORD].cast("q")

    @staticmethod
    def size(capacity: int, words: int) -> int:
        """Bytes that the memory must have."""
        return _HEADER_WORDS * _WORD + capacity * (_WORD + _KEY_BYTES + words * _WORD)

    def items(self, prefix: str = "") -> list[tuple[str, Words]]:
        """A copy of the records whose key starts with `prefix`."""
        found: list[tuple[str, Words]] = []
        for _ in range(_READ_ATTEMPTS):
            changes = self._header[_CHANGES]
            found = [(key, _copy(self._values(index))) for index, key in self._scan() if key.startswith(prefix)]
            if changes % 2 == 0 and self._header[_CHANGES] == changes:
                break
        return found

    def _scan(self) -> Iterator[tuple[int, str]]:
        for index in range(min(self._header[_USED], self._capacity)):
            length = self._length(index)[0]
            if 0 < length <= _KEY_BYTES:
                start = self._start(index) + _WORD
                yield index, bytes(self._memory[start : start + length]).decode("utf-8", "replace")

    def _start(self, index: int) -> int:
        return _HEADER_WORDS * _WORD + index * (_WORD + _KEY_BYTES + self._words * _WORD)

    def _length(self, index: int) -> memoryview:
        """The word that holds the length of the record's key; 0 where the record is free."""
        start = self._start(index)
        return self._memory[start : start + _WORD].cast("q")

    def _values(self, index: int) -> Words:
        start = self._start(index) + _WORD + _KEY_BYTES
        piece = self._memory[start : start + self._words * _WORD]
        return Words(piece.cast("q"), piece.cast("d"))


class OwnRecords(Records):
    """The records of the one process that writes them; its threads take turns by a lock of their own."""

    def __init__(self, memory: memoryview, capacity: int, words: int) -> None:
        super().__init__(memory, capacity, words)
        self._index = {key: index for index, key in self._scan()}
        taken = set(self._index.values())
        self._free = [index for index in range(self._header[_USED]) if index not in taken]
        if self._header[_CHANGES] % 2:  # the process before this one was killed while it removed records
            self._header[_CHANGES] += 1

    @property
    def full(self) -> bool:
        """Whether there is no place for a new key."""
        return not self._free and self._header[_USED] >= self._capacity

    def make(self, key: str) -> Words:
        """The record of `key`, with zeros if it is new.

        Raises:
            SharedMemoryError: All records are taken, or the key is too long.
        """
        index = self._index.get(key)
        if index is not None:
            return self._values(index)
        encoded = key.encode()
        if len(encoded) > _KEY_BYTES:
            raise SharedMemoryError(f"this name is too long to be counted under: {key}", hint="use shorter names")
        if self.full:
            raise SharedMemoryError(f"all {self._capacity} records for counts are taken")
        index = self._free.pop() if self._free else self._header[_USED]
        start = self._start(index) + _WORD
        self._memory[start : start + len(encoded)] = encoded
        found = self._values(index)
        found.ints[:] = memoryview(bytes(self._words * _WORD)).cast("q")
        self._length(index)[0] = len(encoded)  # last: with this, readers see the record
        self._header[_USED] = max(index + 1, self._header[_USED])
        self._index[key] = index
        return found

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Readers see either nothing or all of what is removed and made in this block."""
        self._header[_CHANGES] += 1
        try:
            yield
        finally:
            self._header[_CHANGES] += 1

    def remove(self, keys: Iterable[str]) -> None:
        """Frees the records of these keys."""
        for key in keys:
            index = self._index.pop(key, None)
            if index is not None:
                self._length(index)[0] = 0
                self._free.append(index)

    def oldest(self) -> str:
        """The key that was made first. Raises `StopIteration` where there is none."""
        return next(iter(self._index))


def _copy(words: Words) -> Words:
    data = memoryview(bytes(words.ints))
    return Words(data.cast("q"), data.cast("d"))
