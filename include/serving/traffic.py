"""Replays labelled examples of a dataset as live traffic: asks, and tells the gateway what the right answer was.

    python -m include.serving.traffic --gateway http://127.0.0.1:8900 --family compliance_qa --dataset 1.0.0

It is how a rollout is rehearsed on a machine without users, and what the tests put a gateway under load with. Requests
leave on schedule whether or not earlier ones were answered (an open loop: a slow gateway cannot slow its own load
down), up to a bound on how many may be under way. On SIGTERM, Ctrl-C or after `--seconds` it stops and prints one JSON
line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from include.errors import UserError, WindtunnelError, clip
from include.serving.keys import own_key
from include.serving.tally import Histogram

_MAX_UNDER_WAY = 256
_READY_POLL = 0.25
_READY_SECONDS = 300.0


@dataclass(frozen=True)
class Example:
    """A request and the truth about it."""

    inputs: dict[str, Any]
    truth: dict[str, Any]


@dataclass
class Summary:
    """What a replay did.

    Attributes:
        sent, answered, failed: Questions; every one that was sent is either answered or failed in the end.
        skipped: Questions that were due while too many were under way, and were not sent.
        feedback, feedback_failed: Feedback messages accepted and not accepted.
        failures: Reason -> how often.
        versions: Model version -> answers.
    """

    sent: int = 0
    answered: int = 0
    failed: int = 0
    skipped: int = 0
    feedback: int = 0
    feedback_failed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "answered": self.answered,
            "failed": self.failed,
            "skipped": self.skipped,
            "feedback": self.feedback,
            "feedback_failed": self.feedback_failed,
            "failures": dict(self.failures.most_common(10)),
            "versions": dict(self.versions),
            "latency_p50_ms": self.latency.quantile(0.5),
            "latency_p95_ms": self.latency.quantile(0.95),
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class Plan:
    """How to replay.

    Attributes:
        rate: Questions per second.
        feedback: Share of answers that get feedback.
        units: Distinct units that ask.
        seconds: When to stop; None goes on until `stop` is set.
        seed: Of the order of examples and units.
    """

    gateway: str
    family: str
    rate: float = 60.0
    feedback: float = 1.0
    units: int = 500
    seconds: float | None = None
    seed: int = 0
    api_key: str | None = None


async def replay(plan: Plan, examples: Sequence[Example], stop: asyncio.Event) -> Summary:
    """Sends traffic until `stop` is set or the plan's time is over; waits for what is under way.

    Raises:
        UserError: There are no examples.
    """
    if not examples:
        raise UserError("there are no examples to replay", hint="check the dataset version and the split")
    headers = {"authorization": f"Bearer {plan.api_key}"} if plan.api_key else {}
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(
        base_url=plan.gateway, headers=headers, limits=limits, timeout=30.0, trust_env=False
    ) as client:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_until_ready(client, stop), _READY_SECONDS)
        return await _Replay(plan, examples, client).run(stop)


class _Replay:
    def __init__(self, plan: Plan, examples: Sequence[Example], client: httpx.AsyncClient) -> None:
        self._plan = plan
        self._examples = examples
        self._client = client
        self._random = random.Random(plan.seed)
        self._summary = Summary()

    async def run(self, stop: asyncio.Event) -> Summary:
        started = time.monotonic()
        under_way: set[asyncio.Task[None]] = set()
        number = 0
        while not stop.is_set():
            due = started + number / self._plan.rate
            if self._plan.seconds is not None and number >= self._plan.seconds * self._plan.rate:
                break
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), max(0.0, due - time.monotonic()))
            number += 1
            if len(under_way) >= _MAX_UNDER_WAY:
                self._summary.skipped += 1
                continue
            task = asyncio.create_task(self._one())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        if under_way:
            await asyncio.wait(under_way)
        self._summary.seconds = time.monotonic() - started
        return self._summary

    async def _one(self) -> None:
        example = self._random.choice(self._examples)
        unit = f"unit-{self._random.randrange(self._plan.units)}"
        wants_feedback = self._random.random() < self._plan.feedback
        body = {"family": self._plan.family, "unit_id": unit, "inputs": example.inputs}
        started = time.perf_counter()
        self._summary.sent += 1
        answer = await self._post("/v1/ask", body)
        if answer is None:
            self._summary.failed += 1
            return
        self._summary.answered += 1
        self._summary.latency.add((time.perf_counter() - started) * 1e3)
        self._summary.versions[str(answer.get("model_version"))] += 1
        if wants_feedback:
            given = await self._post("/v1/feedback", {"request_id": answer["request_id"], "truth": example.truth})
            self._summary.feedback += given is not None
            self._summary.feedback_failed += given is None

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer, or None for a failure, which is counted by its reason."""
        try:
            response = await self._client.post(path, json=body)
            if response.status_code == httpx.codes.OK:
                answer: dict[str, Any] = response.json()
                return answer
            reason = f"{path} {response.status_code}: {clip(response.text, 120)}"
        except (httpx.HTTPError, ValueError) as error:
            reason = f"{path} {type(error).__name__}"
        self._summary.failures[reason] += 1
        return None


async def _until_ready(client: httpx.AsyncClient, stop: asyncio.Event) -> None:
    """Waits for the gateway's first routing table: before it there is nobody to ask."""
    while not stop.is_set():
        with contextlib.suppress(httpx.HTTPError):
            if (await client.get("/v2/health/ready")).status_code == httpx.codes.OK:
                return
        await asyncio.sleep(_READY_POLL)


def dataset_examples(family: str, version: str, split: str) -> list[Example]:
    """The examples of a published dataset version, as the family's code asks them.

    Raises:
        UserError: There is no such family, version or split.
    """
    from include.data.datasets import open_dataset
    from include.families.contract import load_code
    from include.settings import Settings
    from include.spec.load import load_family

    settings = Settings.from_env()
    dataset = open_dataset(settings, family, version)
    requests = load_code(load_family(family).code).requests(dataset, split)
    return [Example(dict(inputs), dict(truth)) for _, inputs, truth in requests]


class _Stopped(Exception):
    """Told to stop before there was anything to stop."""


def _stop_early(*_: object) -> None:
    raise _Stopped


async def _run(plan: Plan, examples: Sequence[Example]) -> Summary:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    return await replay(plan, examples, stop)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.serving.traffic", description="Replays labelled traffic.")
    parser.add_argument("--gateway", required=True, metavar="URL")
    parser.add_argument("--family", required=True)
    parser.add_argument("--dataset", required=True, metavar="VERSION")
    parser.add_argument("--split", default="test")
    parser.add_argument("--rate", type=float, default=60.0, help="questions per second")
    parser.add_argument("--feedback", type=float, default=1.0, help="share of answers that get feedback")
    parser.add_argument("--units", type=int, default=500, help="distinct units that ask")
    parser.add_argument("--seconds", type=float, help="stop after this long (default: on SIGTERM)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 where every question was answered, 1 where one failed, 2 where nothing could be replayed."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.rate <= 0 or arguments.units < 1 or not 0 <= arguments.feedback <= 1:
        parser.error("--rate and --units must be positive, --feedback between 0 and 1")
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, _stop_early)
    try:
        plan = Plan(
            gateway=arguments.gateway.rstrip("/"),
            family=arguments.family,
            rate=arguments.rate,
            feedback=arguments.feedback,
            units=arguments.units,
            seconds=arguments.seconds,
            seed=arguments.seed,
            api_key=own_key(os.environ),
        )
        examples = dataset_examples(arguments.family, arguments.dataset, arguments.split)
        summary = asyncio.run(_run(plan, examples))
    except _Stopped:
        summary = Summary()
    except WindtunnelError as error:
        print(error, file=sys.stderr, flush=True)
        return 2
    print(json.dumps(summary.to_json()), flush=True)
    return 1 if summary.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
