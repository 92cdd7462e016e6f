"""The prediction log: nothing lost, nothing doubled, nothing half."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from include.serving.predictions import (
    FEEDBACK,
    PREDICTION,
    PredictionLog,
    PredictionLogError,
    read_feedback,
    read_predictions,
)
from include.store.objects import LocalObjectStore, StoreError

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def row(number: int, at: datetime = NOON, **changes: Any) -> dict[str, Any]:
    return {"kind": PREDICTION, "family": "echo", "at": at.isoformat(), "request_id": f"r{number}"} | changes


def ids(store: LocalObjectStore, since: datetime, until: datetime) -> list[str]:
    return [found["request_id"] for found in read_predictions(store, "echo", since, until)]


class Flaky(LocalObjectStore):
    """A store that is away for the first `failures` writes."""

    def __init__(self, root: Path, failures: int) -> None:
        super().__init__(root)
        self.failures = failures

    def put(self, key: str, data: bytes) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreError("away")
        super().put(key, data)


def test_rows_lie_under_their_day_and_are_read_by_time(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    log = PredictionLog(store, "i")
    midnight = datetime(2026, 11, 3, tzinfo=UTC)
    for number, at in enumerate([NOON, midnight - timedelta(seconds=1), midnight, midnight + timedelta(hours=5)]):
        log.add(row(number, at))
    log.add(row(9, kind=FEEDBACK, truth={"citations": []}))
    log.add(row(8, family="other"))
    log.close()
    folders = {key.rsplit("/", 1)[0] for key in store.keys("")}
    assert folders == {"predictions/echo/2026-11-02", "predictions/echo/2026-11-03", "predictions/other/2026-11-02"}
    assert ids(store, NOON, midnight) == ["r0", "r1"]  # half-open: midnight belongs to the next day
    assert ids(store, midnight, midnight + timedelta(days=1)) == ["r2", "r3"]
    assert ids(store, datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)) == ["r0", "r1", "r2", "r3"]
    assert [found["request_id"] for found in read_feedback(store, "echo", NOON, midnight)] == ["r9"]
    assert ids(store, NOON - timedelta(days=5), NOON) == []


def test_rows_are_written_after_a_while_and_at_once_when_there_are_many(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    log = PredictionLog(store, "i", flush_seconds=30.0, flush_rows=10)
    log.start()
    for number in range(10):
        log.add(row(number))
    wait_until(lambda: log.written == 10)
    log.add(row(10))
    assert log.pending == 1
    log.close()
    assert len(ids(store, NOON, NOON + timedelta(seconds=1))) == 11


def test_a_store_that_is_away_for_a_while_loses_and_doubles_nothing(tmp_path: Path) -> None:
    store = Flaky(tmp_path, failures=3)
    log = PredictionLog(store, "i", flush_seconds=0.02)
    log.start()
    for number in range(50):
        log.add(row(number, family="echo" if number % 2 else "other"))
        time.sleep(0.002)
    wait_until(lambda: log.pending == 0 and log.written == 50)
    log.close()
    assert ids(store, NOON, NOON + timedelta(seconds=1)) == [f"r{n}" for n in range(1, 50, 2)]


def test_beyond_the_bound_the_oldest_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    store = Flaky(tmp_path, failures=1)
    log = PredictionLog(store, "i", max_rows=5)
    for number in range(8):
        log.add(row(number))
    with pytest.raises(StoreError):
        log.flush()
    assert (log.pending, log.dropped) == (5, 3)
    log.flush()
    assert ids(store, NOON, NOON + timedelta(seconds=1)) == ["r3", "r4", "r5", "r6", "r7"]


def test_rows_from_many_threads_are_all_there(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    log = PredictionLog(store, "i", flush_seconds=0.01, flush_rows=50)
    log.start()
    threads = [threading.Thread(target=lambda n=n: [log.add(row(n * 1000 + k)) for k in range(500)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    found = ids(store, NOON, NOON + timedelta(seconds=1))
    assert len(found) == len(set(found)) == 2000


def test_whatever_a_model_answers_is_written_as_json(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    log = PredictionLog(store, "i")
    outputs = {
        "score": float("nan"), "number": np.float32(0.5), "array": np.arange(3), "text": "ü\n\u2028",
        "citations": [{"text": "a long passage"}], "odd": object(),
    }  # fmt: skip
    log.add(row(1, outputs=outputs))
    log.add(row(2, outputs=None))
    log.close()
    first, second = read_predictions(store, "echo", NOON, NOON + timedelta(seconds=1))
    assert first["outputs"]["score"] is None and first["outputs"]["number"] == 0.5
    assert first["outputs"]["array"] == [0, 1, 2] and first["outputs"]["text"] == "ü\n\u2028"
    assert "citations" not in first["outputs"] and "object" in first["outputs"]["odd"]
    assert second["outputs"] is None


def test_a_damaged_segment_is_named(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    store.put("predictions/echo/2026-11-02/x.jsonl", b'{"kind": "prediction", "at": "2026-11-02T12:00:00+00:00"}\n{"ki')
    with pytest.raises(PredictionLogError, match=r"x\.jsonl:2"):
        list(read_predictions(store, "echo", NOON, NOON + timedelta(days=1)))


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
