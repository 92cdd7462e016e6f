"""What the processes of a gateway know of each other, in memory that they share.

The supervisor alone writes which generation of each routing table serves and which workers are live; every worker has
a column of its own for what it counts. A request reads one word to know which table answers it, so all workers change
the table in the same moment.

A generation is named by its *stamp*: twice its number, plus one if all of its models are loaded. (A table may have to
serve without its challenger; once that can be loaded after all, the same generation gets the higher stamp.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any

from include.errors import WindtunnelError
from include.serving.shared import shared_memory

_WORD = 8
_LEADER, _FAMILIES, _SETTLED, _STATUS = range(4)  # words of the head; the status is where it starts, and its length
_HEAD_WORDS, _COLUMN_WORDS, _FAMILY_WORDS = 8, 32, 2
_MOST_FAMILIES, _NAME_BYTES = 2048, 128
_STATUS_BYTES = 1 << 19
_SHIFT = 32


class Column(IntEnum):
    """Words of a worker's column. `LIVE` is the supervisor's; counters never shrink, the others are as they are now."""

    LIVE = 0
    PID = 1
    CONNECTIONS = 2
    BEAT = 3
    ROWS_PENDING = 4
    SHADOW_WAITING = 5
    MODEL_CALLS = 6
    MODEL_ROWS = 7
    MODEL_WAITING = 8
    MODEL_STUCK = 9
    UNDER_WAY = 10
    RESIDENT_KB = 11
    LOG_STALLED = 12
    ROWS_WRITTEN = 16
    ROWS_DROPPED = 17
    SHADOW_DROPPED = 18
    TURNED_AWAY = 19


#: Words that go on counting when another process takes the column over.
COUNTERS = frozenset(column for column in Column if column >= Column.ROWS_WRITTEN)


def stamp_of(generation: int, *, whole: bool) -> int:
    """The stamp of a generation; `whole`: with all of its models."""
    return generation * 2 + whole


class Board:
    """Shared by the supervisor and `slots` workers that are forked after this."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        words = _HEAD_WORDS + slots * _COLUMN_WORDS + _MOST_FAMILIES * _FAMILY_WORDS
        names, status = words * _WORD, words * _WORD + _MOST_FAMILIES * _NAME_BYTES
        memory = shared_memory(status + 2 * _STATUS_BYTES)
        self._words = memory[:names].cast("q")
        self._names = memory[names:status]
        self._text = memory[status:]
        self._stamps_at = _HEAD_WORDS + slots * _COLUMN_WORDS
        self._known: dict[str, int] = {}  # family -> its index; filled as families appear

    @property
    def leader(self) -> int:
        """The slot of the worker that tries a new generation first."""
        return self._words[_LEADER]

    @leader.setter
    def leader(self, slot: int) -> None:
        self._words[_LEADER] = slot

    @property
    def settled(self) -> bool:
        """Whether a leader has loaded all it could since the start."""
        return bool(self._words[_SETTLED])

    def settle(self) -> None:
        self._words[_SETTLED] = 1

    def read(self, slot: int, column: Column) -> int:
        return self._words[_HEAD_WORDS + slot * _COLUMN_WORDS + column]

    def write(self, slot: int, column: Column, value: int) -> None:
        self._words[_HEAD_WORDS + slot * _COLUMN_WORDS + column] = value

    def sum(self, column: Column) -> int:
        """Over all workers."""
        return sum(self.read(slot, column) for slot in range(self.slots))

    @property
    def live(self) -> list[int]:
        """Slots of the workers that take requests."""
        return [slot for slot in range(self.slots) if self.read(slot, Column.LIVE)]

    def committed(self, family: str) -> int:
        """The stamp of the generation that serves; 0 before the first."""
        index = self._known.get(family)
        if index is None:
            index = self._find(family)
            if index is None:
                return 0
        return self._words[self._stamps_at + index * _FAMILY_WORDS]

    def proven(self, family: str) -> int:
        """The newest stamp that some worker has loaded."""
        index = self._find(family)
        return 0 if index is None else self._words[self._stamps_at + index * _FAMILY_WORDS + 1]

    def commit(self, family: str, stamp: int) -> None:
        """Lets this generation answer every request that comes in from now on."""
        self._words[self._stamps_at + self._index(family) * _FAMILY_WORDS] = stamp

    def prove(self, family: str, stamp: int) -> None:
        self._words[self._stamps_at + self._index(family) * _FAMILY_WORDS + 1] = stamp

    @property
    def families(self) -> Iterable[str]:
        """All families that some worker has loaded since the start."""
        self._find("")
        return list(self._known)

    @property
    def status(self) -> Mapping[str, Any]:
        """What the supervisor last published."""
        word = self._words[_STATUS]
        start, length = word >> _SHIFT, word & ((1 << _SHIFT) - 1)
        if not length:
            return MappingProxyType({})
        try:
            return MappingProxyType(json.loads(bytes(self._text[start : start + length])))
        except ValueError:  # it changed twice while it was read
            return self.status

    def publish(self, status: Mapping[str, Any]) -> None:
        """Replaces the status; readers see the old one or the new one whole."""
        data = json.dumps(status).encode()
        if len(data) > _STATUS_BYTES:
            data = json.dumps({**status, "failed": {}}).encode()[:_STATUS_BYTES]
        start = 0 if self._words[_STATUS] >> _SHIFT else _STATUS_BYTES
        self._text[start : start + len(data)] = data
        self._words[_STATUS] = start << _SHIFT | len(data)

    def _find(self, family: str) -> int | None:
        for index in range(len(self._known), self._words[_FAMILIES]):
            start = index * _NAME_BYTES
            name = bytes(self._names[start : start + _NAME_BYTES]).rstrip(b"\0").decode()
            self._known[name] = index
        return self._known.get(family)

    def _index(self, family: str) -> int:
        """The family's index; the supervisor alone may add one.

        Raises:
            WindtunnelError: There are too many families, or the name is too long.
        """
        index = self._find(family)
        if index is not None:
            return index
        name, index = family.encode(), self._words[_FAMILIES]
        if index == _MOST_FAMILIES or len(name) > _NAME_BYTES:
            raise WindtunnelError(
                f"family {family!r} cannot be served here", hint=f"a gateway serves at most {_MOST_FAMILIES} families"
            )
        self._names[index * _NAME_BYTES : index * _NAME_BYTES + len(name)] = name
        self._words[_FAMILIES] = index + 1
        self._known[family] = index
        return index
