"""Merging of waiting requests into one model call."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from include.serving.batching import Batcher, ModelError, ModelTimeout, answer
from include.serving.models import worth_batching
from include.serving.wire import RequestError
from tests.fakes.echo_family import EchoRuntime


def batcher(runtime: Any, workers: int = 1, max_rows: int = 8, max_waiting: int = 100, seconds: float = 5.0) -> Batcher:
    return Batcher(runtime, workers=workers, max_rows=max_rows, max_waiting=max_waiting, seconds=seconds)


async def ask_all(target: Batcher, questions: list[str]) -> list[Any]:
    jobs = [target.submit({"question": [question]}, 1) for question in questions]
    return await asyncio.gather(*jobs, return_exceptions=True)


def test_requests_that_wait_together_are_answered_together_and_each_gets_its_own() -> None:
    runtime = EchoRuntime({"name": "m", "latency_ms": 20})
    questions = [f"q{n}" for n in range(20)]
    answers = asyncio.run(ask_all(batcher(runtime), questions))
    assert [found.records[0]["answer"] for found in answers] == [f"m: {question}" for question in questions]
    assert runtime.batches == [1, 8, 8, 3]  # the first one finds a free worker and does not wait for company


def test_a_request_of_many_rows_is_one_call_and_is_not_split() -> None:
    runtime = EchoRuntime({"latency_ms": 5})

    async def scenario() -> list[Any]:
        target = batcher(runtime)
        rows = [["a"], ["b"] * 7, ["c"] * 30, ["d"] * 2]
        return await asyncio.gather(*(target.submit({"question": row}, len(row)) for row in rows))

    answers = asyncio.run(scenario())
    assert [len(found.records) for found in answers] == [1, 7, 30, 2]
    assert answers[3].outputs["answer"] == ["echo: d", "echo: d"]
    assert runtime.batches == [1, 7, 30, 2]


def test_one_bad_question_does_not_fail_the_others_in_its_batch() -> None:
    runtime = EchoRuntime({"latency_ms": 10, "fail_on": "boom"})
    answers = asyncio.run(ask_all(batcher(runtime), ["first", "a", "boom", "c"]))
    assert isinstance(answers[2], RuntimeError)
    assert [found.records[0]["answer"] for found in (*answers[:2], answers[3])] == ["echo: first", "echo: a", "echo: c"]


def test_a_model_that_exits_fails_its_request_and_answers_the_next() -> None:
    class Exits(EchoRuntime):
        def predict(self, inputs: Any) -> Any:
            if "exit" in inputs["question"]:
                raise SystemExit(3)
            return super().predict(inputs)

    async def scenario() -> list[Any]:
        target = batcher(Exits({}))
        return [*await ask_all(target, ["exit"]), *await ask_all(target, ["exit", "b"])]

    first, second, third = asyncio.run(scenario())
    assert isinstance(first, ModelError) and isinstance(second, ModelError)
    assert third.records[0]["answer"] == "echo: b"


def test_a_full_queue_turns_requests_away_with_503() -> None:
    runtime = EchoRuntime({"latency_ms": 20})
    answers = asyncio.run(ask_all(batcher(runtime, max_rows=1, max_waiting=2), [f"q{n}" for n in range(6)]))
    refused = [found for found in answers if isinstance(found, RequestError)]
    assert len(refused) == 3 and all(error.status == 503 and error.retry_after for error in refused)
    assert len(runtime.batches) == 3


def test_requests_whose_client_went_away_are_not_computed() -> None:
    runtime = EchoRuntime({"latency_ms": 20})

    async def scenario() -> None:
        target = batcher(runtime, max_rows=1)
        tasks = [asyncio.create_task(target.submit({"question": [f"q{n}"]}, 1)) for n in range(3)]
        await asyncio.sleep(0.005)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scenario())
    assert len(runtime.batches) == 2


def test_a_model_that_gives_another_number_of_answers_breaks_the_contract() -> None:
    class Short(EchoRuntime):
        def predict(self, inputs: Any) -> dict[str, list[Any]]:
            return {name: values[:-1] for name, values in super().predict(inputs).items()}

    with pytest.raises(ModelError, match="1 values of 'answer' for 2 rows"):
        answer(Short({}), {"question": ["a", "b"]}, 2)


@pytest.mark.parametrize(("settings", "expected"), [({"latency_ms": 3}, True), ({"row_ms": 3}, False)])
def test_requests_are_merged_only_for_a_model_that_gains_by_it(settings: dict[str, Any], expected: bool) -> None:
    assert worth_batching(EchoRuntime(settings)) is expected


def test_a_call_that_hangs_fails_its_request_in_time_and_holds_up_no_other_thread() -> None:
    class Hanging(EchoRuntime):
        def predict(self, inputs: Any) -> dict[str, list[Any]]:
            if inputs["question"] == ["hang"]:
                time.sleep(0.6)
            return super().predict(inputs)

    async def scenario() -> list[Any]:
        target = batcher(Hanging({}), workers=2, max_rows=1, seconds=0.2)
        first = await ask_all(target, ["hang", *(f"q{n}" for n in range(20))])
        await asyncio.sleep(0.6)  # the thread comes back, and its late answer goes nowhere
        return first + await ask_all(target, ["a", "b"])

    answers = asyncio.run(scenario())
    assert isinstance(answers[0], ModelTimeout)
    assert [found.records[0]["answer"] for found in answers[1:]] == [
        f"echo: {q}" for q in [*(f"q{n}" for n in range(20)), "a", "b"]
    ]


def test_the_threads_of_a_model_end_with_it() -> None:
    def threads() -> int:
        return sum(thread.name == "model" for thread in threading.enumerate())

    before = threads()
    target: Batcher | None = batcher(EchoRuntime({}), workers=3)
    assert target is not None
    asyncio.run(ask_all(target, ["a", "b"]))
    assert threads() == before + 3
    del target
    deadline = time.monotonic() + 5
    while threads() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
