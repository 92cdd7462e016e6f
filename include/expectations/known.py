"""What earlier deliveries brought: keys and contents of clean rows, to tell what is repeated and what exists."""

from __future__ import annotations

from collections import defaultdict


class Known:
    """Keys and contents of clean rows, by table.

    Args:
        before: What was known before; it is looked at and never added to.
    """

    def __init__(self, before: Known | None = None) -> None:
        self._before = before
        self._keys: defaultdict[str, set[str]] = defaultdict(set)
        self._contents: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, table: str, key: str, content: str) -> None:
        """Adds a clean row."""
        self._keys[table].add(key)
        self._contents[table].add(content)

    def has_key(self, table: str, key: str) -> bool:
        return key in self._keys[table] or (self._before is not None and self._before.has_key(table, key))

    def has_content(self, table: str, content: str) -> bool:
        """Whether a row with the same values, under whatever key, is known."""
        return content in self._contents[table] or (
            self._before is not None and self._before.has_content(table, content)
        )
