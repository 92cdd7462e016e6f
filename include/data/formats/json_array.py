"""Cuts a JSON array of any size into the texts of its items, without holding more than one of them.

Only strings and brackets are looked at, as bytes: they are ASCII, and no byte of another UTF-8 character looks like
them. Whether an item is valid is for the JSON parser to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

CHUNK = 1 << 18
_BLANK = b" \t\r\n"
_BETWEEN = re.compile(rb'["{}\[\],]')
_NESTED = re.compile(rb'["{}\[\]]')
_STRING = re.compile(rb'"|\\.', re.DOTALL)


@dataclass(frozen=True)
class Item:
    """One item: its bytes, and the byte (from 0), line (from 1) and number (from 1) where it stands."""

    number: int
    byte: int
    line: int
    data: bytes
    too_long: bool = False


class ArrayFault(Exception):
    """The array cannot be cut further.

    Attributes:
        message: What was met or missed.
        byte: Where, from 0.
        line: Where, from 1.
        cut: Whether the file ended too early.
        data: What was there of the record in which it ended.
        inside: Where in the array that is, in words.
    """

    def __init__(
        self, message: str, byte: int, line: int, cut: bool = False, data: bytes = b"", inside: str = ""
    ) -> None:
        super().__init__(message)
        self.message, self.byte, self.line = message, byte, line
        self.cut, self.data, self.inside = cut, data, inside


class NoArray(ArrayFault):
    """The file holds no array, or nothing at all (`byte` is then the end of the file)."""


def array_texts(file: BinaryIO, max_bytes: int) -> Iterator[Item]:
    """The items of the array in `file`; of one that is longer than `max_bytes` only the start. Raises `ArrayFault`."""
    window = _Window(file)
    if not window.skip_blank() or window.peek() != b"[":
        raise NoArray("no array", window.byte, window.line, cut=not window.peek())
    window.take()
    number = 0
    while _next(window, number) != b"]":
        number += 1
        yield window.item(number, max_bytes)
        token = _next(window, number)
        if token == b",":
            window.take()
        elif token != b"]":
            raise ArrayFault("expected ',' or ']'", window.byte, window.line, inside=f" after record {number}")
    window.take()
    if window.skip_blank():
        raise ArrayFault("there is more after the end of the array", window.byte, window.line)


def _next(window: _Window, number: int) -> bytes:
    """The next byte that is not blank, not taken yet."""
    if not window.skip_blank():
        inside = f" after record {number}"
        raise ArrayFault("the array has no end", window.byte, window.line, cut=True, inside=inside)
    return window.peek()


class _Window:
    """A file seen through a window that moves on."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._data = b""
        self._at = 0
        self._byte = 0  # of the start of the window
        self._line = 1  # at `_counted`
        self._counted = 0

    @property
    def byte(self) -> int:
        return self._byte + self._at

    @property
    def line(self) -> int:
        self._count_lines(self._at)
        return self._line

    def peek(self) -> bytes:
        return self._data[self._at : self._at + 1]

    def take(self) -> bytes:
        self._at += 1
        return self._data[self._at - 1 : self._at]

    def skip_blank(self) -> bool:
        """Moves to the next byte that is not blank; False at the end of the file."""
        while True:
            while self._at < len(self._data):
                if self._data[self._at] not in _BLANK:
                    return True
                self._at += 1
            if not self._more(self._at):
                return False

    def item(self, number: int, max_bytes: int) -> Item:
        """The item that starts here; see `array_texts`."""
        byte, line, kept = self.byte, self.line, _Kept(max_bytes)
        depth, in_string, at = 0, False, self._at
        while True:
            pattern = _STRING if in_string else _NESTED if depth else _BETWEEN
            match = pattern.search(self._data, at)
            if match is None:
                # A backslash at the end of the window goes with what follows it.
                end = len(self._data) - (in_string and self._data.endswith(b"\\", at))
                self._move(end, kept)
                if not self._more(end):
                    where = f" in record {number}"
                    raise ArrayFault("the record has no end", self.byte, self.line, True, bytes(kept.data), where)
                at = self._at
                continue
            token, at = match[0], match.end()
            if token == b'"':
                in_string = not in_string
            elif not in_string:
                if not depth and token in b",]}":  # the array's own
                    self._move(match.start(), kept)
                    return Item(number, byte, line, bytes(kept.data), kept.too_long)
                depth += 1 if token in b"{[" else -1
                if not depth:
                    self._move(at, kept)
                    return Item(number, byte, line, bytes(kept.data), kept.too_long)

    def _count_lines(self, end: int) -> None:
        self._line += self._data.count(b"\n", self._counted, end)
        self._counted = end

    def _move(self, end: int, kept: _Kept) -> None:
        kept.add(self._data[self._at : end])
        self._at = end

    def _more(self, keep_from: int) -> bool:
        """Lets the window begin at `keep_from` and reads on; False at the end of the file."""
        chunk = self._file.read(CHUNK)
        if not chunk:
            return False
        self._count_lines(keep_from)
        self._counted = 0
        self._byte += keep_from
        self._data = self._data[keep_from:] + chunk
        self._at -= keep_from
        return True


class _Kept:
    """The bytes of an item, as far as they are wanted."""

    def __init__(self, max_bytes: int) -> None:
        self.data = bytearray()
        self.too_long = False
        self._max_bytes = max_bytes

    def add(self, piece: bytes) -> None:
        room = self._max_bytes - len(self.data)
        self.too_long = self.too_long or len(piece) > room
        self.data += piece[:room]
