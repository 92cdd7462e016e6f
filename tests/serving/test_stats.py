"""Counts that a rollout is judged on."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.release.routing import Role, RoutingTable, Variant
from include.serving.stats import Stats
from include.serving.tally import Histogram, Lane, Moments, Place

TABLE = RoutingTable(
    champion=Variant(role=Role.CHAMPION, version="1.0.0", digest="a"),
    challenger=Variant(role=Role.CHALLENGER, version="2.0.0", digest="b"),
    challenger_share=0.5,
)


def place(generation: int = 1, role: Role = Role.CHAMPION, lane: Lane = Lane.LIVE) -> Place:
    version, digest = ("1.0.0", "a") if role is Role.CHAMPION else ("2.0.0", "b")
    return Place("echo", generation, role, version, digest, lane)


def snapshot(stats: Stats, family: str, generation: int) -> dict[str, Any] | None:
    (found,) = stats.counts(family, generation)
    return found.to_json(TABLE) if found else None


@given(st.lists(st.floats(0.02, 1e5), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantiles_are_within_two_percent(values: list[float], q: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = float(np.quantile(values, q, method="inverted_cdf"))
    assert histogram.quantile(q) == pytest.approx(exact, rel=0.02)


def test_histogram_takes_every_number_and_knows_nothing_before_the_first() -> None:
    histogram = Histogram()
    assert histogram.quantile(0.5) is None
    for value in (0.0, -1.0, 1e-9, 1e12):
        histogram.add(value)
    assert histogram.total == 4 and histogram.up_to(10.0) == 3


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=50))
def test_moments_are_mean_and_standard_deviation(values: list[float]) -> None:
    moments = Moments()
    for value in values:
        moments.add(value)
    shown = moments.to_json()
    assert shown["n"] == len(values)
    assert shown["mean"] == pytest.approx(np.mean(values), abs=1e-9)
    assert shown["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)


def test_no_count_is_lost_when_many_threads_count() -> None:
    stats = Stats()
    stats.open("echo", 1)

    def work(number: int) -> None:
        for count in range(2000):
            stats.record(place(role=Role.CHALLENGER if number % 2 else Role.CHAMPION), 1.0, failed=count % 10 == 0)
            stats.label(place(), {"hit": count % 2})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = snapshot(stats, "echo", 1)
    assert shown is not None
    champion, challenger = shown["variants"]["champion"], shown["variants"]["challenger"]
    assert (champion["requests"], champion["errors"]) == (challenger["requests"], challenger["errors"]) == (8000, 800)
    assert champion["labels"] == 16000 and champion["quality"]["hit"]["mean"] == pytest.approx(0.5)
    assert champion["latency_p50_ms"] == pytest.approx(1.0, rel=0.02)


def test_lanes_and_generations_are_kept_apart() -> None:
    stats = Stats()
    stats.open("echo", 1)
    stats.open("echo", 2)
    stats.record(place(1), 1.0, failed=False)
    stats.record(place(2, Role.CHALLENGER, Lane.SHADOW), 1.0, failed=True)
    stats.record(place(2, lane=Lane.DIRECT), 1.0, failed=True)
    first, second = snapshot(stats, "echo", 1), snapshot(stats, "echo", 2)
    assert first is not None and second is not None
    assert first["variants"]["champion"]["requests"] == 1
    assert second["variants"]["champion"]["requests"] == second["variants"]["challenger"]["requests"] == 0
    assert second["variants"]["challenger"]["shadow"]["errors"] == 1
    assert snapshot(stats, "echo", 3) is None and snapshot(stats, "other", 1) is None


def test_old_generations_go_into_totals_that_never_shrink() -> None:
    stats = Stats(kept=2)
    for generation in range(1, 6):
        stats.open("echo", generation)
        stats.record(place(generation), 1.0, failed=False)
    stats.record(place(1), 1.0, failed=True)  # a request that was in flight since generation 1
    assert snapshot(stats, "echo", 1) is None and snapshot(stats, "echo", 5) is not None
    totals = {(cell.place.role, cell.place.lane): cell for cell in stats.totals()}
    assert totals[Role.CHAMPION, Lane.LIVE].requests == 6
    assert totals[Role.CHAMPION, Lane.LIVE].errors == 1
    assert totals[Role.CHAMPION, Lane.LIVE].latency.total == 5
