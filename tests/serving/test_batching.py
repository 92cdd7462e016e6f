"""Merging of waiting requests into one model call."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from include.serving.batching import Batcher
from include.serving.calls import ModelError, ModelStuck, ModelTimeout, answer
from include.serving.models import worth_batching
from include.serving.wire import RequestError
from tests.fakes.echo_family import EchoRuntime


def batcher(runtime: Any, workers: int = 1, max_rows: int = 8, max_waiting: int = 100, **limits: float) -> Batcher:
    return Batcher(runtime, workers=workers, max_rows=max_rows, max_waiting=max_waiting, **{"seconds": 5.0, **limits})


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
    class Panic(BaseException):
        """As of Rust code: no `Exception`."""

    class Exits(EchoRuntime):
        def predict(self, inputs: Any) -> Any:
            if "exit" in inputs["question"]:
                raise SystemExit(3)
            if "panic" in inputs["question"]:
                raise Panic
            return super().predict(inputs)

    async def scenario() -> list[Any]:
        target = batcher(Exits({}))
        return [*await ask_all(target, ["exit"]), *await ask_all(target, ["panic", "b"])]

    first, second, third = asyncio.run(scenario())
    assert isinstance(first, ModelError) and isinstance(second, ModelError)
    assert third.records[0]["answer"] == "echo: b"


def test_a_full_queue_turns_requests_away_with_503() -> None:
    runtime = EchoRuntime({"latency_ms": 20})
    answers = asyncio.run(ask_all(batcher(runtime, max_rows=1, max_waiting=2), [f"q{n}" for n in range(6)]))
    refused = [found for found in answers if isinstance(found, RequestError)]
    assert len(refused) == 3 and all(error.status == 503 and error.headers["retry-after"] for error in refused)
    assert len(runtime.batches) == 3


def test_the_queue_is_bounded_in_rows_and_takes_one_large_request() -> None:
    async def scenario() -> list[Any]:
        target = batcher(EchoRuntime({"latency_ms": 20}), max_rows=8, max_waiting=10)
        rows = [["a"], ["b"] * 30, ["c"], ["d"]]
        return await asyncio.gather(
            *(target.submit({"question": row}, len(row)) for row in rows), return_exceptions=True
        )

    first, large, refused, also = asyncio.run(scenario())
    assert len(first.records) == 1 and len(large.records) == 30
    assert isinstance(refused, RequestError) and isinstance(also, RequestError)


def test_a_request_that_would_wait_too_long_is_turned_away_at_once() -> None:
    """What a slow model could not answer in time never gets into its queue, and whoever is turned away is told when."""

    async def scenario() -> tuple[list[Any], list[Any]]:
        target = batcher(EchoRuntime({"latency_ms": 40}), max_rows=1, max_waiting=1000, max_wait=0.2)
        await ask_all(target, ["how long does a call take?"])
        first = await ask_all(target, [f"q{n}" for n in range(30)])
        return first, await ask_all(target, ["a", "b"])

    first, later = asyncio.run(scenario())
    refused = [found for found in first if isinstance(found, RequestError)]
    assert 20 <= len(refused) < 30 and {error.status for error in refused} == {503}
    assert {error.headers["retry-after"] for error in refused} == {"1"}
    assert [found.records[0]["answer"] for found in later] == ["echo: a", "echo: b"]


def test_only_requests_of_one_form_are_merged() -> None:
    """A batch of vectors of several lengths is none that a model expects."""

    class Vectors:
        inputs, outputs = {"x": "FP32"}, {"total": "FP32"}
        calls: list[list[int]] = []

        def predict(self, inputs: Any) -> dict[str, list[Any]]:
            time.sleep(0.01)
            self.calls.append([len(row) for row in inputs["x"]])
            return {"total": [sum(row) for row in inputs["x"]]}

        def answer(self, outputs: Any, index: int) -> dict[str, Any]:
            return {"total": outputs["total"][index]}

    async def scenario() -> list[Any]:
        target = batcher(Vectors())
        rows = [[[1.0]], [[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]], [[7.0]], [[8.0]], [[9.0, 9.0, 9.0]]]
        return await asyncio.gather(*(target.submit({"x": row}, len(row)) for row in rows))

    answers = asyncio.run(scenario())
    assert [found.outputs["total"] for found in answers] == [[1.0], [3.0], [7.0, 11.0], [7.0], [8.0], [27.0]]
    assert Vectors.calls == [[1], [2, 2, 2], [1, 1], [3]]


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


def test_calls_that_hang_are_replaced_and_a_model_that_only_hangs_fails_at_once() -> None:
    """A few poisonous questions must not take a model away from everyone; if too many hang, nobody waits in vain."""
    release = threading.Event()

    class Hanging(EchoRuntime):
        def predict(self, inputs: Any) -> dict[str, list[Any]]:
            if inputs["question"] == ["hang"]:
                release.wait(20)
            return super().predict(inputs)

    async def scenario() -> None:
        target = batcher(Hanging({}), workers=2, max_rows=1, seconds=0.05)
        for _ in range(2):  # more than it has threads, and as many as are replaced
            await ask_all(target, ["hang"] * 2)
            (answer,) = await ask_all(target, ["fine"])
            assert answer.records[0]["answer"] == "echo: fine" and not target.stuck
        await ask_all(target, ["hang"] * 2)
        with pytest.raises(ModelStuck):
            await target.submit({"question": ["nobody is left"]}, 1)
        assert target.stuck
        release.set()
        while target.stuck or len(threads() - before) > 2:
            await asyncio.sleep(0.01)
        (answer,) = await ask_all(target, ["back again"])
        assert answer.records[0]["answer"] == "echo: back again"

    before = threads()
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_client_with_less_time_than_the_model_may_take_is_told_in_its_time() -> None:
    async def scenario() -> list[Any]:
        target = batcher(EchoRuntime({"latency_ms": 100}))
        hurried = target.submit({"question": ["a"]}, 1, seconds=0.01)
        patient = target.submit({"question": ["b"]}, 1, seconds=60.0)
        return await asyncio.gather(hurried, patient, return_exceptions=True)

    hurried, patient = asyncio.run(scenario())
    assert isinstance(hurried, ModelTimeout) and patient.records[0]["answer"] == "echo: b"


def threads() -> set[threading.Thread]:
    """Of all models in this process, those of other tests too."""
    return {thread for thread in threading.enumerate() if thread.name == "model"}


def test_the_threads_of_a_model_end_with_it() -> None:
    before = threads()
    target: Batcher | None = batcher(EchoRuntime({}), workers=3)
    assert target is not None
    asyncio.run(ask_all(target, ["a", "b"]))
    own = threads() - before
    assert len(own) == 3
    del target
    deadline = time.monotonic() + 5
    while threads() & own:
        assert time.monotonic() < deadline
        time.sleep(0.01)
