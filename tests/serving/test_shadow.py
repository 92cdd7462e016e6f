"""The shadow lane by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from include.release.routing import Role
from include.serving.batching import Batcher
from include.serving.models import Model
from include.serving.shadow import Copy, ShadowLane, ShadowOutcome
from include.serving.tally import Lane, Place
from tests.fakes.echo_family import EchoRuntime

PLACE = Place("echo", 1, Role.CHALLENGER, "2.0.0", "b", Lane.SHADOW)


def copies(count: int, **settings: Any) -> list[Copy]:
    runtime = EchoRuntime(settings)
    batcher = Batcher(runtime, workers=2, max_rows=1, max_waiting=10, seconds=0.2)
    model = Model("b", runtime, batcher, {}, False)
    return [Copy([f"r{n}"], "u", {"question": [f"q{n}"]}, PLACE, model) for n in range(count)]


def outcomes(
    size: int, given: list[Copy], expected: int, wanted: Callable[[Copy], bool] = lambda _: True
) -> tuple[list[ShadowOutcome], int]:
    """What came of the copies, and how many were dropped."""
    found: list[ShadowOutcome] = []

    async def scenario() -> int:
        lane = ShadowLane(size, wanted, found.append)
        lane.start()
        for copy in given:
            lane.offer(copy)
        async with asyncio.timeout(5):
            while len(found) < expected:
                await asyncio.sleep(0.005)
        await lane.stop()
        return lane.dropped

    return found, asyncio.run(scenario())


def test_copies_are_answered_one_at_a_time_and_in_order() -> None:
    given = copies(10, latency_ms=5)
    found, dropped = outcomes(20, given, 10)
    assert [outcome.copy.request_ids for outcome in found] == [[f"r{n}"] for n in range(10)]
    assert all(outcome.answers and outcome.error is None and outcome.latency_ms >= 5 for outcome in found)
    assert dropped == 0 and given[0].model.runtime.batches == [1] * 10  # type: ignore[attr-defined]


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    found, dropped = outcomes(4, copies(10), 4)
    assert len(found) == 4 and dropped == 6


def test_copies_of_a_stage_that_is_over_are_left() -> None:
    found, dropped = outcomes(20, copies(10), 7, lambda copy: copy.request_ids[0] >= "r3")
    assert len(found) == 7 and dropped == 3


def test_a_challenger_that_raises_or_hangs_is_an_error_and_the_lane_goes_on() -> None:
    found, _ = outcomes(20, [*copies(1, fail_on="q0"), *copies(1, latency_ms=400), *copies(1)], 3)
    assert found[0].error == "RuntimeError: the echo broke"
    assert "did not answer" in str(found[1].error)
    assert found[2].answers is not None
