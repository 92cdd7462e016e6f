"""The prediction log: nothing lost, nothing doubled, nothing half."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from include.serving.prediction_log import PredictionLog
from include.serving.predictions import (
    FEEDBACK,
    PREDICTION,
    PredictionLogError,
    read_feedback,
    read_predictions,
)
from include.serving.spool import Spool, SpoolError
from include.settings import PROJECT_ROOT
from include.store.objects import LocalObjectStore, StoreError

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def row(number: int, at: datetime = NOON, **changes: Any) -> dict[str, Any]:
    return {"kind": PREDICTION, "family": "echo", "at": at.isoformat(), "request_id": f"r{number}"} | changes


def ids(store: LocalObjectStore, since: datetime, until: datetime) -> list[str]:
    return [found["request_id"] for found in read_predictions(store, "echo", since, until)]


def make_log(store: LocalObjectStore, folder: Path, instance: str = "i", **limits: Any) -> PredictionLog:
    return PredictionLog(store, Spool(folder / "spool"), instance, **limits)


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
    store = LocalObjectStore(tmp_path / "store")
    log = make_log(store, tmp_path)
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
    store = LocalObjectStore(tmp_path / "store")
    log = make_log(store, tmp_path, flush_seconds=30.0, flush_rows=10)
    log.start()
    for number in range(10):
        log.add(row(number))
    wait_until(lambda: log.written == 10)
    log.add(row(10))
    assert log.pending == 1
    log.close()
    assert len(ids(store, NOON, NOON + timedelta(seconds=1))) == 11


def test_a_store_that_is_away_for_a_while_loses_and_doubles_nothing(tmp_path: Path) -> None:
    store = Flaky(tmp_path / "store", failures=3)
    log = make_log(store, tmp_path, flush_seconds=0.02)
    log.start()
    for number in range(50):
        log.add(row(number, family="echo" if number % 2 else "other"))
        time.sleep(0.002)
    wait_until(lambda: log.written == 50 and log.pending == 0)
    log.close()
    assert ids(store, NOON, NOON + timedelta(seconds=1)) == [f"r{n}" for n in range(1, 50, 2)]


def test_a_store_that_is_away_costs_no_memory_and_what_does_not_fit_on_disk_is_counted(tmp_path: Path) -> None:
    store = Flaky(tmp_path / "store", failures=2)
    spool = Spool(tmp_path / "spool", max_bytes=400)
    log = PredictionLog(store, spool, "i")
    for number in range(8):
        log.add(row(number))
        log.flush()
        if number < 2:
            with pytest.raises(StoreError):
                log.upload()
    waiting = sum(path.stat().st_size for path in (tmp_path / "spool").rglob("*.jsonl"))
    assert 200 < waiting <= 400 and log.dropped == 8 - log.pending > 0
    log.close()
    assert ids(store, NOON, NOON + timedelta(seconds=1)) == [f"r{n}" for n in range(log.dropped, 8)]
    assert not list((tmp_path / "spool").iterdir())


def test_a_stopped_process_leaves_what_the_store_did_not_take_to_the_next_one(tmp_path: Path) -> None:
    store = Flaky(tmp_path / "store", failures=1)
    log = make_log(store, tmp_path)
    log.add(row(1))
    with pytest.raises(StoreError):
        log.close()
    assert log.pending == 1
    following = make_log(store, tmp_path, "j")
    following.add(row(2))
    following.close()
    assert (following.written, following.pending) == (2, 0)
    assert ids(store, NOON, NOON + timedelta(seconds=1)) == ["r1", "r2"]
    assert not list((tmp_path / "spool").iterdir())


def test_what_a_living_process_keeps_is_left_alone(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path / "store")
    one, other = make_log(store, tmp_path, "one"), make_log(store, tmp_path, "other")
    one.add(row(1))
    one.flush()
    other.upload()
    assert (other.written, one.pending) == (0, 1)
    one.close()
    other.close()
    assert ids(store, NOON, NOON + timedelta(seconds=1)) == ["r1"]


KILLED = """
import sys, time
from pathlib import Path
from include.serving.prediction_log import PredictionLog
from include.serving.spool import Spool
from include.store.objects import LocalObjectStore, StoreError

class Away(LocalObjectStore):
    def put(self, key, data):
        raise StoreError("away")

folder, instance, away = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "away"
store = (Away if away else LocalObjectStore)(folder / "store")
log = PredictionLog(store, Spool(folder / "spool"), instance, flush_seconds=0.05, flush_rows=50)
log.start()
number = 0
while True:
    at = "2026-11-02T12:00:00+00:00"
    log.add({"kind": "prediction", "family": "echo", "at": at, "request_id": f"{instance}-{number}"})
    print(number, log.pending if not away else "", flush=True)
    number += 1
    time.sleep(0.0005)
"""


@pytest.mark.parametrize("store_is", ["there", "away"])
def test_a_killed_process_loses_at_most_one_flush_and_doubles_nothing(tmp_path: Path, store_is: str) -> None:
    """Killed with SIGKILL at any moment, whether the store takes segments or not."""
    told: dict[str, int] = {}
    for kill in range(3):
        command = [sys.executable, "-c", KILLED, str(tmp_path), f"p{kill}", store_is]
        with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            for line in lines:
                told[f"p{kill}"] = int(line.split()[0])
                if told[f"p{kill}"] >= 200 + 67 * kill:
                    process.kill()
                    break
            for line in lines:  # what it had said by then
                told[f"p{kill}"] = int(line.split()[0])
    store = LocalObjectStore(tmp_path / "store")
    make_log(store, tmp_path, "last").close()
    found = ids(store, NOON, NOON + timedelta(seconds=1))
    assert len(found) == len(set(found))
    for name, last in told.items():
        numbers = sorted(int(each.partition("-")[2]) for each in found if each.startswith(f"{name}-"))
        assert numbers == list(range(len(numbers)))  # what is lost is the end alone
        # one flush: what came in while one was written and while the next one was due
        assert last - len(numbers) < 150, "more than a flush is lost"
    assert not list((tmp_path / "spool").iterdir())


def test_a_store_that_hangs_holds_up_no_flush_and_is_told(tmp_path: Path) -> None:
    go_on = threading.Event()

    class Hanging(LocalObjectStore):
        def put(self, key: str, data: bytes) -> None:
            go_on.wait(20)
            super().put(key, data)

    now = [0.0]
    store = Hanging(tmp_path / "store")
    log = make_log(store, tmp_path, flush_seconds=0.01, clock=lambda: now[0])
    log.start()
    log.add(row(0))
    wait_until(lambda: log._behind_since is not None)
    assert not log.stalled
    now[0] = 20.0
    assert log.stalled
    for number in range(1, 20):
        log.add(row(number))
    wait_until(lambda: not log._rows and log.pending == 20)  # on disk, although the first is still on its way
    go_on.set()
    wait_until(lambda: log.written == 20 and not log.stalled)
    log.close()
    assert len(ids(store, NOON, NOON + timedelta(seconds=1))) == 20


def test_a_disk_that_fails_keeps_a_bounded_number_of_rows_in_memory(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("this is no folder")
    store = LocalObjectStore(tmp_path / "store")
    log = make_log(store, tmp_path, max_rows=5)
    for number in range(8):
        log.add(row(number))
    with pytest.raises(SpoolError, match="cannot be kept"):
        log.flush()
    assert (log.pending, log.dropped) == (5, 3)
    (tmp_path / "spool").unlink()
    log.close()
    assert ids(store, NOON, NOON + timedelta(seconds=1)) == ["r0", "r1", "r2", "r3", "r4"]


def test_rows_from_many_threads_are_all_there(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path / "store")
    log = make_log(store, tmp_path, flush_seconds=0.01, flush_rows=50)
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
    store = LocalObjectStore(tmp_path / "store")
    log = make_log(store, tmp_path)
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
    store = LocalObjectStore(tmp_path / "store")
    store.put("predictions/echo/2026-11-02/x.jsonl", b'{"kind": "prediction", "at": "2026-11-02T12:00:00+00:00"}\n{"ki')
    with pytest.raises(PredictionLogError, match=r"x\.jsonl:2"):
        list(read_predictions(store, "echo", NOON, NOON + timedelta(days=1)))


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
