"""The prediction log: what the gateway answered and what people said about it, as JSONL segments in the object store.

Requests only append to a list in memory; a background thread writes whole segments every few seconds, so that logging
costs a request microseconds and a crash loses at most what one flush holds. A segment is written whole or not at all,
and lies under the day of its rows: `predictions/<family>/<YYYY-MM-DD>/<HHMMSS.ffffff>-<instance>-<number>.jsonl`.

A *prediction* row has `kind` ("prediction"), `request_id`, `at` (ISO 8601, UTC), `family`, `version`, `digest`,
`role` ("champion" or "challenger"), `generation`, `shadow` (the answer went nowhere), `direct` (the client chose
the version, so the row is no part of a comparison), `unit_id`, `inputs` (the family's request fields), `outputs` (the
answer record without quoted texts: scores, keys, confidence; null where the model failed), `latency_ms`, and `error`
(null or a sentence).
A *feedback* row has `kind` ("feedback"), `request_id`, `at`, `family`, `version`, `role`, `generation`, `truth`,
`helpful` and `labels` (metric -> value as labelled by the model's own rule; empty where only `helpful` came).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic_core import PydanticSerializationError

from include.errors import DataError, WindtunnelError
from include.serving.encoding import encode
from include.store.objects import ObjectStore

log = logging.getLogger(__name__)

PREFIX = "predictions"
PREDICTION, FEEDBACK = "prediction", "feedback"
_LISTED_DAYS = 62  # a longer window is cheaper to read from one listing than day by day


class PredictionLogError(DataError):
    """A segment of the prediction log does not hold what was written."""


class PredictionLog:
    """Collects rows from any thread and writes them in the background.

    While the store cannot be written the rows are kept and tried again; beyond `max_rows` the oldest are dropped, and
    counted. `close` writes what is left.
    """

    def __init__(
        self,
        store: ObjectStore,
        instance: str,
        *,
        flush_seconds: float = 2.0,
        flush_rows: int = 500,
        max_rows: int = 50_000,
    ) -> None:
        self._store = store
        self._instance = instance
        self._flush_seconds = flush_seconds
        self._flush_rows = flush_rows
        self._max_rows = max_rows
        self._rows: list[Mapping[str, Any]] = []
        self._lock = threading.Lock()  # guards _rows and the counters; held for moments only
        self._flushing = threading.Lock()  # one flush at a time, so that rows keep their order
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._segments = 0
        self.written = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, row: Mapping[str, Any]) -> None:
        """Queues a row; it needs `family` and `at`. Never blocks on the store."""
        with self._lock:
            self._rows.append(row)
            full = len(self._rows) >= self._flush_rows
        if full:
            self._wake.set()

    @property
    def pending(self) -> int:
        """Rows that are not yet in the store."""
        with self._lock:
            return len(self._rows)

    def flush(self) -> None:
        """Writes all pending rows now.

        Raises:
            StoreError: The store cannot be written; the rows stay pending.
        """
        with self._flushing:
            with self._lock:
                rows, self._rows = self._rows, []
            left = list(rows)
            try:
                for key, group in _segments(rows):
                    data, bad = _lines(group)
                    self._store.put(f"{key}-{self._instance}-{self._segments:06d}.jsonl", data)
                    self._segments += 1
                    left = left[len(group) :]
                    with self._lock:
                        self.written += len(group) - bad
                        self.dropped += bad
            finally:
                if left:
                    self._keep(left)

    def close(self) -> None:
        """Stops the thread and writes what is left.

        Raises:
            StoreError: The store cannot be written; the rows are lost with the process.
        """
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        self.flush()

    def _keep(self, rows: list[Mapping[str, Any]]) -> None:
        with self._lock:
            kept = rows + self._rows
            surplus = max(0, len(kept) - self._max_rows)
            self._rows = kept[surplus:]
            self.dropped += surplus

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._flush_seconds)
            self._wake.clear()
            try:
                self.flush()
            except WindtunnelError as error:  # the rows are kept; the next round tries again
                log.warning("the prediction log cannot be written, %d rows wait: %s", self.pending, error)
                self._stopping.wait(self._flush_seconds)


def read_predictions(store: ObjectStore, family: str, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    """Prediction rows with `since` <= `at` < `until` (aware datetimes), in the order they were written.

    Raises:
        PredictionLogError: A segment is damaged.
        StoreError: The store cannot be read.
    """
    return _read(store, family, since, until, PREDICTION)


def read_feedback(store: ObjectStore, family: str, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    """Feedback rows, as `read_predictions`."""
    return _read(store, family, since, until, FEEDBACK)


def _read(store: ObjectStore, family: str, since: datetime, until: datetime, kind: str) -> Iterator[dict[str, Any]]:
    for key in _keys(store, family, since.astimezone(UTC).date(), until.astimezone(UTC).date()):
        for number, line in enumerate(store.get(key).splitlines(), start=1):
            try:
                row = json.loads(line)
                wanted = row["kind"] == kind and since <= datetime.fromisoformat(row["at"]) < until
            except (ValueError, KeyError, TypeError) as error:
                place = f"{store.uri(key)}:{number}"
                raise PredictionLogError(
                    f"not a row of the prediction log: {error}", where=place, hint="remove the segment"
                ) from error
            if wanted:
                yield row


def _keys(store: ObjectStore, family: str, first: date, last: date) -> Iterator[str]:
    root = f"{PREFIX}/{family}/"
    if (last - first).days > _LISTED_DAYS:
        yield from (
            key for key in store.keys(root) if first.isoformat() <= key[len(root) :].split("/")[0] <= last.isoformat()
        )
        return
    for offset in range((last - first).days + 1):
        yield from store.keys(f"{root}{first + timedelta(days=offset)}/")


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
    return b"\n".join(lines) + b"\n", len(rows) - len(lines)


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
