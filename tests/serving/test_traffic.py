"""Replayed traffic: what was sent, answered and told."""

from __future__ import annotations

import asyncio

import pytest

from include.errors import UserError
from include.serving.traffic import Example, Plan, replay
from tests.serving.conftest import Gateways, RunningGateway, World

EXAMPLES = [Example({"question": f"q{n}"}, {"citations": ["1:1" if n % 2 else "9:9"]}) for n in range(40)]


def test_every_question_is_counted_and_labelled(gateway: RunningGateway) -> None:
    before = gateway.champion()
    plan = Plan(gateway.url, "echo", rate=150, units=20, seconds=1.0)
    summary = asyncio.run(replay(plan, EXAMPLES, asyncio.Event()))
    assert summary.sent == summary.answered == summary.feedback == 150
    assert (summary.failed, summary.feedback_failed, summary.skipped) == (0, 0, 0)
    assert summary.versions == {"1.0.0": 150}
    after = gateway.champion()
    assert after["requests"] - before["requests"] == after["labels"] - before["labels"] == 150
    assert 0.3 < after["quality"]["hit_at_1"]["mean"] < 0.7


def test_the_share_of_feedback_is_kept_and_stop_ends_it(gateway: RunningGateway) -> None:
    before = gateway.champion()["requests"]

    async def scenario() -> tuple[int, int]:
        stop = asyncio.Event()
        plan = Plan(gateway.url, "echo", rate=200, feedback=0.25)
        running = asyncio.create_task(replay(plan, EXAMPLES, stop))
        while (await asyncio.to_thread(gateway.champion))["requests"] - before < 80:
            await asyncio.sleep(0.05)
        stop.set()
        summary = await running
        return summary.answered, summary.feedback

    answered, feedback = asyncio.run(scenario())
    assert answered >= 80
    assert 0.1 < feedback / answered < 0.45


def test_failures_are_counted_by_their_reason(gateway: RunningGateway) -> None:
    plan = Plan(gateway.url, "nobody", rate=50, seconds=0.2)
    summary = asyncio.run(replay(plan, EXAMPLES, asyncio.Event()))
    assert summary.sent == summary.failed == 10 and summary.answered == 0
    assert sum(summary.failures.values()) == 10 and "404" in next(iter(summary.failures))


def test_no_examples_is_an_error() -> None:
    with pytest.raises(UserError, match="no examples"):
        asyncio.run(replay(Plan("http://127.0.0.1:9", "echo"), [], asyncio.Event()))


@pytest.mark.slow
def test_it_waits_for_the_first_route(world: World, start_gateway: Gateways) -> None:
    gateway = start_gateway()
    gateway.wait_for(lambda: gateway.client.get("/v2/health/live").status_code == 200)

    async def scenario() -> int:
        plan = Plan(gateway.url, "echo", rate=50, seconds=0.5)
        running = asyncio.create_task(replay(plan, EXAMPLES, asyncio.Event()))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(world.route, world.model("1.0.0"))
        summary = await running
        assert summary.failed == 0
        return summary.answered

    assert asyncio.run(scenario()) == 25
