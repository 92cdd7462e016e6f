"""What earlier deliveries brought: keys and contents of clean rows, to tell what is repeated and what exists."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from include.data.marks import Marks, MarkSet
from include.data.rows import key_marks


class Known:
    """Keys and contents of clean rows, by table, as marks (see `include.data.marks`).

    Args:
        before: What was known before; it is looked at and never added to.
    """

    def __init__(self, before: Known | None = None) -> None:
        self._before = before
        self._keys: defaultdict[str, MarkSet] = defaultdict(MarkSet)
        self._contents: defaultdict[str, MarkSet] = defaultdict(MarkSet)

    def add(self, table: str, keys: Marks, contents: Marks) -> None:
        """Adds clean rows: the marks of their keys and of their other values."""
        self._keys[table].add(keys)
        self._contents[table].add(contents)

    def adopt(self, other: Known, table: str) -> None:
        """Shares what `other` itself knows of a table, also what is added to it later."""
        self._keys[table], self._contents[table] = other._keys[table], other._contents[table]

    def has_keys(self, table: str, keys: pa.Array) -> NDArray[np.bool_]:
        """Which of `keys` a clean row has."""
        return self.has_marks(table, key_marks(keys))

    def has_marks(self, table: str, keys: Marks) -> NDArray[np.bool_]:
        """Like `has_keys`, by the marks of the keys."""
        found = self._keys[table].contains(keys)
        return found if self._before is None else found | self._before.has_marks(table, keys)

    def has_contents(self, table: str, contents: Marks) -> NDArray[np.bool_]:
        """For which of `contents` a clean row with the same values, under whatever key, is known."""
        found = self._contents[table].contains(contents)
        return found if self._before is None else found | self._before.has_contents(table, contents)
