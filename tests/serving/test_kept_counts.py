"""Counts of several processes add up, and outlive them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.release.routing import Role
from include.serving.kept_counts import CountsError, KeptCounts
from include.serving.shared import OwnRecords, Records, SharedMemoryError, shared_memory
from include.serving.stats import CountMemory, Stats
from include.serving.tally import GenerationCounts, Lane, Moments, Place
from include.store.objects import LocalObjectStore, StoreError

PLACE = Place("echo", 1, Role.CHAMPION, "1.0.0", "a", Lane.LIVE)
SHADOW = PLACE._replace(role=Role.CHALLENGER, version="2.0.0", lane=Lane.SHADOW)


def work(stats: Stats, requests: int, first: int = 0) -> None:
    stats.open("echo", 1)
    for number in range(first, first + requests):
        stats.begin(PLACE)
        stats.record(PLACE, 1.0 + number, failed=number % 5 == 0)
        stats.label(PLACE, {"hit": number % 3, "error": number * 1.5})
        stats.pair(SHADOW, {"hit": 1.0}, {"hit": number % 2})


def shown(counts: GenerationCounts | None) -> tuple[int, int, int, float | None, dict[str, float], float]:
    assert counts is not None
    cell = counts.cells["1.0.0", Lane.LIVE]
    quality = {name: round(moments.mean, 9) for name, moments in cell.quality.items()}
    return (
        cell.requests,
        cell.errors,
        cell.labels,
        cell.latency.quantile(0.5),
        quality,
        round(counts.paired["hit"].mean, 9),
    )


def test_processes_that_count_apart_count_what_one_would(tmp_path: Path) -> None:
    alone = Stats()
    work(alone, 60)
    memory = [CountMemory.make() for _ in range(3)]
    parts = [Stats(memory, slot) for slot in range(3)]
    for slot, stats in enumerate(parts):
        work(stats, 20, slot * 20)
    store = LocalObjectStore(tmp_path)
    expected = shown(KeptCounts(store, alone, "alone", 0, 1.0).joined("echo", 1))
    for slot, stats in enumerate(parts):
        assert shown(KeptCounts(store, stats, "g", slot, 1.0).joined("echo", 1)) == expected
    (total,) = parts[0].totals()
    assert (total.requests, total.latency.total) == (60, 48)


def test_who_takes_a_killed_process_place_goes_on_and_counts_what_was_under_way_as_failed() -> None:
    memory = [CountMemory.make()]
    first = Stats(memory)
    work(first, 10)
    first.begin(PLACE)
    first.begin(PLACE)
    first.withdraw(PLACE)
    second = Stats(memory)
    work(second, 1)
    (found,) = second.counts("echo", 1)
    assert found is not None
    cell = found.cells["1.0.0", Lane.LIVE]
    assert (cell.requests, cell.errors, cell.labels, cell.crashes) == (12, 4, 11, 1)
    assert GenerationCounts.from_record(found.to_record()).cells["1.0.0", Lane.LIVE].crashes == 1
    third = Stats(memory)
    (again,) = third.counts("echo", 1)
    assert again is not None
    cell = again.cells["1.0.0", Lane.LIVE]
    assert (cell.requests, cell.crashes) == (12, 1)


def test_what_was_written_counts_after_a_restart_and_beside_other_gateways(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    for name in ("before", "beside"):
        stats = Stats()
        work(stats, 10)
        KeptCounts(store, stats, name, 0, 1.0).flush()
    now = Stats()
    kept = KeptCounts(store, now, "now", 0, 1.0)
    assert shown(kept.joined("echo", 1))[0] == 20
    work(now, 5)
    assert shown(kept.joined("echo", 1))[0] == 25
    kept.flush()
    kept.flush()
    assert shown(kept.joined("echo", 1))[0] == 25, "what it wrote itself is not counted twice"
    assert len(list(store.keys("counts/"))) == 3
    assert kept.joined("echo", 2) is None


def test_counts_of_other_gateways_are_at_most_one_interval_old(tmp_path: Path) -> None:
    clock = [0.0]
    store = LocalObjectStore(tmp_path)
    here, there = Stats(), Stats()
    work(here, 1)
    kept, other = KeptCounts(store, here, "a", 0, 1.0, lambda: clock[0]), KeptCounts(store, there, "b", 0, 1.0)
    work(there, 10)
    other.flush()
    assert shown(kept.joined("echo", 1))[0] == 11
    work(there, 10)
    other.flush()
    assert shown(kept.joined("echo", 1))[0] == 11
    clock[0] = 1.0
    assert shown(kept.joined("echo", 1))[0] == 21


def test_while_the_store_is_away_counts_wait(tmp_path: Path) -> None:
    class Away(LocalObjectStore):
        away = True

        def put(self, key: str, data: bytes) -> None:
            if self.away:
                raise StoreError("no route to host")
            super().put(key, data)

    store, stats = Away(tmp_path), Stats()
    kept = KeptCounts(store, stats, "g", 0, 1.0)
    work(stats, 3)
    with pytest.raises(StoreError):
        kept.flush()
    store.away = False
    kept.flush()
    assert shown(KeptCounts(store, Stats(), "next", 0, 1.0).joined("echo", 1))[0] == 3


def test_a_damaged_object_is_named(tmp_path: Path) -> None:
    store = LocalObjectStore(tmp_path)
    store.put("counts/echo/00000001/x-0.json", b'{"cells": [{}], "paired": {}}')
    with pytest.raises(CountsError, match=r"x-0\.json"):
        KeptCounts(store, Stats(), "g", 0, 1.0).joined("echo", 1)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=20), max_size=5))
def test_moments_of_parts_are_the_moments_of_the_whole(parts: list[list[float]]) -> None:
    whole, total = Moments(), Moments()
    for values in parts:
        part = Moments()
        for value in values:
            part.add(value)
            whole.add(value)
        total.merge(part)
    assert total.n == whole.n
    assert total.mean == pytest.approx(whole.mean, abs=1e-6, rel=1e-9)
    assert total.squares == pytest.approx(whole.squares, abs=1e-2, rel=1e-6)


def test_records_are_found_again_freed_and_never_too_many() -> None:
    memory = shared_memory(Records.size(3, 2))
    own, reader = OwnRecords(memory, 3, 2), Records(memory, 3, 2)
    for number, key in enumerate("abc"):
        own.make(key).ints[0] = number
    assert [(key, words.ints[0]) for key, words in reader.items()] == [("a", 0), ("b", 1), ("c", 2)]
    with pytest.raises(SharedMemoryError):
        own.make("d")
    own.remove(["b"])
    assert own.make("d").ints[0] == 0
    assert [key for key, _ in reader.items()] == ["a", "d", "c"]
    after = OwnRecords(memory, 3, 2)
    assert after.full and after.make("c").ints[0] == 2
    with pytest.raises(SharedMemoryError):
        own.make("x" * 1000)
