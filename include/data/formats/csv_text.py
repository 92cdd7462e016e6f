"""Reads CSV files that may be broken.

A quote that is never closed swallows the rest of a file. Here it costs one line: a record of several lines that cannot
be right (bad quoting, no end, another number of cells) is given up as the one line where it began, and reading goes on
at the line after that.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from include.data.formats.json_text import skip_line
from include.data.formats.opening import MAX_FILE_BYTES, open_file
from include.data.formats.parsed import (
    FETCH_AGAIN,
    KEPT_BYTES,
    MALFORMED_CSV,
    NOT_UTF8,
    NUL_BYTE,
    TOO_LONG,
    WRONG_SCHEMA,
    Parsed,
    has_surrogate,
)
from include.errors import DataError


def csv_rows(
    path: Path,
    max_bytes: int,
    max_file_bytes: int = MAX_FILE_BYTES,
    *,
    delimiter: str = ",",
    encoding: str = "utf-8",
    header: Sequence[str] = (),
) -> Iterator[Parsed]:
    """The rows of a CSV file as text by column name, streamed; blank lines are no rows.

    Args:
        max_bytes: A longer row has the problem `too_long`.
        encoding: Of the text; one in which ASCII is ASCII.
        header: Names of the columns where the file's first row does not hold them.

    Raises:
        DataError: The file cannot be read, is empty, or its header cannot be used.
    """
    csv.field_size_limit(max(csv.field_size_limit(), max_bytes + 2))
    with open_file(path, max_file_bytes) as file:
        rows = _Rows(_Lines(file, max_bytes, encoding), delimiter, max_bytes)
        names = list(header) or _header(path, rows)
        while (row := rows.next(len(names))) is not None:
            if row.problem is None:
                yield Parsed(row.number, dict(zip(names, row.cells, strict=True)), raw=row.text[:KEPT_BYTES])
            else:
                raw = row.text[:KEPT_BYTES].encode("utf-8", "replace").decode()
                yield Parsed(row.number, {}, row.problem, row.detail, raw)


@dataclass(frozen=True)
class _Line:
    number: int
    text: str
    too_long: bool = False


@dataclass(frozen=True)
class _Row:
    """One row: its cells, or what is wrong with it."""

    number: int
    text: str
    cells: list[str]
    problem: str | None = None
    detail: str = ""


class _Lines:
    """Physical lines, which can be put back."""

    def __init__(self, file: BinaryIO, max_bytes: int, encoding: str) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._encoding = encoding
        self._number = 0
        self._waiting: deque[_Line] = deque()

    def next(self) -> _Line | None:
        if self._waiting:
            return self._waiting.popleft()
        data = self._file.readline(self._max_bytes + 2)
        if not data:
            return None
        self._number += 1
        too_long = len(data.rstrip(b"\r\n")) > self._max_bytes
        if too_long and not data.endswith(b"\n"):
            skip_line(self._file)
        # What cannot be decoded becomes half a surrogate pair, which is found when the row is complete.
        return _Line(self._number, data.decode(self._encoding, "surrogateescape"), too_long)

    def put_back(self, lines: Sequence[_Line]) -> None:
        self._waiting.extendleft(reversed(lines))


class _Endless(Exception):
    """A row of several lines grew beyond the limit."""


class _Rows:
    """Rows of a file; each is one or several of its lines."""

    def __init__(self, lines: _Lines, delimiter: str, max_bytes: int) -> None:
        self._lines = lines
        self._delimiter = delimiter
        self._max_bytes = max_bytes
        self._taken: list[_Line] = []
        self._reader = self._new_reader()

    def next(self, width: int | None) -> _Row | None:
        """The next row that is not blank; None at the end. `width` is the right number of cells."""
        while True:
            self._taken = []
            problem, detail = None, ""
            try:
                cells = next(self._reader)
            except StopIteration:
                return None
            except _Endless:
                problem, detail = MALFORMED_CSV, f"a quote is not closed within {self._max_bytes} bytes"
            except csv.Error as error:
                problem, detail = MALFORMED_CSV, f"{error}"
            if self._taken[0].too_long:
                first = self._give_up()
                return _Row(first.number, first.text, [], TOO_LONG, f"longer than {self._max_bytes} bytes")
            if problem is None and not cells:
                continue
            if problem is None and width is not None and len(cells) != width:
                problem, detail = WRONG_SCHEMA, f"{len(cells)} cells, the header has {width}"
            if problem is not None:
                first = self._give_up()
                return _Row(first.number, first.text, [], problem, detail)
            return self._row(cells)

    def _row(self, cells: list[str]) -> _Row:
        number, text = self._taken[0].number, "".join(line.text for line in self._taken).rstrip("\r\n")
        if has_surrogate(text):
            return _Row(number, text, [], NOT_UTF8, "bytes that are no text in the file's encoding")
        if "\0" in text:
            return _Row(number, text, [], NUL_BYTE, "a NUL byte")
        return _Row(number, text, cells)

    def _give_up(self) -> _Line:
        """The line where the row began; what it took beyond that is read again."""
        first, *rest = self._taken
        self._lines.put_back(rest)
        self._reader = self._new_reader()
        return first

    def _new_reader(self) -> Iterator[list[str]]:
        return csv.reader(self._feed(), delimiter=self._delimiter, strict=True)

    def _feed(self) -> Iterator[str]:
        """The lines of one row after the other, as the reader asks for them."""
        while (line := self._lines.next()) is not None:
            self._taken.append(line)
            if line.too_long and len(self._taken) == 1:
                yield "\n"  # the row is reported as too long, whatever it holds
            elif sum(len(taken.text) for taken in self._taken) > self._max_bytes + 2:
                raise _Endless
            else:
                yield line.text


def _header(path: Path, rows: _Rows) -> list[str]:
    row = rows.next(None)
    if row is None:
        raise DataError("the file holds no columns", where=str(path), hint=FETCH_AGAIN)
    if row.problem:
        detail = f"the header cannot be read, {row.problem}: {row.detail}"
        raise DataError(detail, where=f"{path}:{row.number}", hint=FETCH_AGAIN)
    names = [cell.strip() for cell in row.cells]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not any(names):
        what = f"the header names {repeated[0]!r} twice" if repeated and repeated[0] else "the header names no columns"
        raise DataError(what, where=f"{path}:{row.number}", hint="every column needs a name of its own")
    return names
