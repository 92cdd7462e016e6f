"""Writes the prediction log: rows in memory, segments on this machine's disk, objects in the store.

A request only appends to a list in memory. Every few seconds a thread writes the list to disk, whole segments at a
time (a *flush*), and another uploads them. So a clean stop loses nothing, `kill -9` at most one flush, and a store that
is away costs disk space, never a client's time, nor more memory than one flush holds. What finds no room is counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from pydantic_core import PydanticSerializationError

from include.errors import WindtunnelError
from include.serving.encoding import encode
from include.serving.predictions import PREFIX
from include.serving.spool import Spool, SpoolError
from include.store.objects import ObjectStore

log = logging.getLogger(__name__)

_RETRY_MOST = 30.0
_STALLED_SECONDS = 15.0
_CLOSE_SECONDS = 30.0


class PredictionLog:
    """Collects rows from any thread and writes them in the background; `close` writes what is left.

    Args:
        instance: Names this process; no other has the same.
        max_rows: Rows in memory. There are so many only where the disk fails: the rows beyond are dropped, and counted.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        store: ObjectStore,
        spool: Spool,
        instance: str,
        *,
        flush_seconds: float = 2.0,
        flush_rows: int = 500,
        max_rows: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._spool = spool
        self._instance = instance
        self._flush_seconds = flush_seconds
        self._flush_rows = flush_rows
        self._max_rows = max_rows
        self._clock = clock
        self._rows: list[Mapping[str, Any]] = []
        self._lock = threading.Lock()  # guards _rows and the counters; held for moments only
        self._flushing = threading.Lock()  # one flush at a time, so that rows keep their order
        self._uploading = threading.Lock()
        self._wake, self._upload_wake = threading.Event(), threading.Event()
        self._stopping = threading.Event()
        self._segments = 0
        self._behind_since: float | None = None
        self.written = 0
        self.dropped = 0
        self._threads = [
            threading.Thread(target=run, name="prediction-log", daemon=True)
            for run in (self._flush_on, self._upload_on)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def add(self, row: Mapping[str, Any]) -> None:
        """Queues a row; it needs `family` and `at`. Never blocks on disk or store."""
        with self._lock:
            if len(self._rows) >= self._max_rows:
                self.dropped += 1
                return
            self._rows.append(row)
            full = len(self._rows) >= self._flush_rows
        if full:
            self._wake.set()

    @property
    def pending(self) -> int:
        """Rows of this process that are not yet in the store."""
        with self._lock:
            return len(self._rows) + self._spool.rows

    @property
    def stalled(self) -> bool:
        """Whether the store has not taken what waits for a while: it is away, or too slow."""
        since = self._behind_since
        return since is not None and self._clock() - since > _STALLED_SECONDS

    def flush(self) -> None:
        """Writes all rows to disk now.

        Raises:
            SpoolError: The disk cannot be written; the rows stay in memory.
        """
        with self._flushing:
            with self._lock:
                rows, self._rows = self._rows, []
            left = list(rows)
            try:
                for place, group in _segments(rows):
                    data, bad = _lines(group)
                    lost = 0
                    if data:
                        key = f"{place}-{self._instance}-{self._segments:06d}.jsonl"
                        lost = self._spool.put(key, data, len(group) - bad)
                        self._segments += 1
                    left = left[len(group) :]
                    with self._lock:
                        self.dropped += bad + lost
            finally:
                if left:
                    with self._lock:
                        self._rows = left + self._rows
        self._upload_wake.set()

    def upload(self) -> None:
        """Uploads all segments that wait, those among them that a process before this one has left behind.

        Raises:
            SpoolError, StoreError: Disk or store cannot be read or written; the segments go on waiting.
        """
        with self._uploading:
            self._spool.adopt()
            waiting = self._spool.waiting()
            if waiting and self._behind_since is None:
                self._behind_since = self._clock()
            for key in waiting:
                data = self._spool.read(key)
                if data is None:
                    continue
                self._store.put(key, data)
                self._spool.remove(key)
                with self._lock:
                    self.written += data.count(b"\n")
            self._behind_since = None

    def close(self) -> None:
        """Stops the threads and writes what is left.

        Raises:
            SpoolError: The disk cannot be written; what is left in memory is lost with the process.
            StoreError: The store cannot be written; the rows wait on disk for the next process.
        """
        self._stopping.set()
        self._wake.set()
        self._upload_wake.set()
        deadline = self._clock() + _CLOSE_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=max(0.0, deadline - self._clock()))
        self.flush()
        try:
            if not self._threads[1].is_alive():  # else the store hangs, and would hang here, too
                self.upload()
        finally:
            self._spool.close()

    def _flush_on(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._flush_seconds)
            self._wake.clear()
            try:
                self.flush()
            except SpoolError as error:  # the rows are kept; the next round tries again
                log.warning("the prediction log cannot be written, %d rows wait: %s", self.pending, error)
                self._stopping.wait(self._flush_seconds)

    def _upload_on(self) -> None:
        pause = self._flush_seconds
        while not self._stopping.is_set():
            try:
                self.upload()
                pause = self._flush_seconds
                self._upload_wake.wait(_RETRY_MOST)
            except WindtunnelError as error:  # the segments are kept; the next round tries again
                log.warning("the prediction log cannot be uploaded, %d rows wait: %s", self.pending, error)
                self._stopping.wait(pause)
                pause = min(pause * 2, _RETRY_MOST)
            self._upload_wake.clear()


def _segments(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Runs of rows of one family and day, with the beginning of the key they go under."""
    group: list[Mapping[str, Any]] = []
    place = ""
    for row in rows:
        day = str(row["at"])[:10]
        folder = f"{PREFIX}/{row['family']}/{day}"
        if group and folder != place:
            yield f"{place}/{_time_of_day(group[0])}", group
            group = []
        place = folder
        group.append(row)
    if group:
        yield f"{place}/{_time_of_day(group[0])}", group


def _time_of_day(row: Mapping[str, Any]) -> str:
    return datetime.fromisoformat(row["at"]).strftime("%H%M%S.%f")


def _lines(rows: list[Mapping[str, Any]]) -> tuple[bytes, int]:
    """The rows as JSONL, and how many could not be written as JSON (a model may answer with anything)."""
    lines: list[bytes] = []
    for row in rows:
        try:
            lines.append(encode(_slim(row)))
        except (PydanticSerializationError, ValueError) as error:
            log.warning("a row of the prediction log is not JSON and was dropped: %s", error)
    return b"".join(line + b"\n" for line in lines), len(rows) - len(lines)


def _slim(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row without lists of records in its outputs: quoted passages belong to the dataset, not to the log."""
    outputs = row.get("outputs")
    if not isinstance(outputs, Mapping):
        return row
    kept = {
        name: value
        for name, value in outputs.items()
        if not (isinstance(value, list) and value and isinstance(value[0], Mapping))
    }
    return {**row, "outputs": kept}
