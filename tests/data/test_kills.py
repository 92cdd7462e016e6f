"""`kill -9` at random moments of ingest, validate and publish: the same version, no row lost, none twice."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.data_process import Work
from tests.servers.postgres import PostgresServer

from .conftest import Deliveries
from .test_crashes import facts, settings_in

pytestmark = pytest.mark.slow


def finish(*works: Work) -> float:
    """Does all of the work at once, to its end; seconds that it took."""
    began = time.monotonic()
    started = [work.start() for work in works]
    for process in started:
        process.join(120)
        assert process.exitcode == 0
    return time.monotonic() - began


def kill(dice: random.Random, seconds: float, *works: Work) -> int:
    """Starts all of the work at once and kills each at a moment of its own within `seconds`; how many had not ended."""
    moments = sorted([(dice.random() * seconds, work.start()) for work in works], key=lambda pair: pair[0])
    began, killed = time.monotonic(), 0
    for moment, process in moments:
        process.join(max(0.0, began + moment - time.monotonic()))
        if process.exitcode is None:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        killed += process.exitcode == -signal.SIGKILL
    return killed


def test_killed_fifty_times(source: Deliveries, tmp_path: Path) -> None:
    """Two installations at a time are killed until a run gets through; then the next two, until fifty were killed."""
    reference = Work(settings_in(tmp_path / "reference"), source.folder)
    finish(reference)
    seconds = finish(*(replace(reference, settings=settings_in(tmp_path / name)) for name in ("clock", "hand")))
    expected, dice, killed = facts(reference.settings), random.Random(11), 0
    for number in range(120):
        pair = [replace(reference, settings=settings_in(tmp_path / f"{number}-{side}")) for side in ("a", "b")]
        while found := kill(dice, seconds, *pair):
            killed += found
        finish(*pair)
        for work in pair:
            assert facts(work.settings) == expected, f"installation {work.settings.home}, after {killed} kills"
        if killed >= 50:
            return
    raise AssertionError(f"only {killed} processes were still at work when their time came")


def test_two_overlapping_backfills_killed_again_and_again(source: Deliveries, tmp_path: Path) -> None:
    reference = Work(settings_in(tmp_path / "reference"), source.folder)
    seconds = finish(reference)
    expected, dice, killed = facts(reference.settings), random.Random(7), 0
    for number in range(60):
        settings = settings_in(tmp_path / f"{number}")
        backfills = (
            replace(reference, settings=settings, run="w1", since="2026-10-06", until="2026-10-20"),
            replace(reference, settings=settings, run="w2", since="2026-10-13", until="2026-10-27"),
        )
        for _ in range(2):
            killed += kill(dice, seconds, *backfills)
        finish(*backfills)
        found = facts(settings)
        assert found["rows"] == expected["rows"]
        assert found["manifest"]["digest"] == expected["manifest"]["digest"]
        assert found["deliveries"] == expected["deliveries"]
        assert len(found["versions"]) == found["ledger"] == 1
        if killed >= 6:
            return
    raise AssertionError(f"only {killed} processes were still at work when their time came")


def test_killed_on_s3_and_postgresql(
    source: Deliveries, tmp_path: Path, s3_url: str, postgres_server: PostgresServer
) -> None:
    """What runs in production, killed a few times."""
    home = settings_in(tmp_path / "home")
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}

    def installation(name: str) -> Work:
        database = postgres_server.url(postgres_server.create())
        settings = replace(home, store_url=f"{s3_url}/{name}", database_url=database)
        return Work(settings, source.folder, environment=environment)

    reference = installation("reference")
    seconds = finish(reference)
    expected, dice, killed = facts(reference.settings), random.Random(3), 0
    for number in range(60):
        work = installation(str(number))
        while kill(dice, seconds, work):
            killed += 1
        finish(work)
        assert facts(work.settings) == expected, f"installation {number}, after {killed} kills"
        if killed >= 6:
            return
    raise AssertionError(f"only {killed} processes were still at work when their time came")
