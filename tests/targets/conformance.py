"""What every serving target must do. A target's test module brings a `bench` and inherits the rest.

The tests share one bench and begin with what they need, so that gateways, which take seconds to start, serve several.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from include.errors import UserError
from include.release.routing import RoutingTable, Variant, assign
from include.settings import PROJECT_ROOT
from include.targets.contract import GatewayError, ServingTarget, TargetPhase
from tests.serving.conftest import FAMILY, World

SECONDS = 120
_UNITS = 40


@dataclass
class Bench:
    """A target, and an installation with echo models beside it.

    Attributes:
        open: The target, as a process that has just started has it.
        world: Its settings lead the target's gateways to its ledger and store.
        replicas: How many gateways are deployed.
        most: To how many it can be scaled.
        addresses: Base URL -> weight: of the gateways that clients are led to at this moment.
        environ: Of a process that works on the same target.
        shadow, sticky: Whether the target has shadows, and sends a unit to the same variant each time.
    """

    open: Callable[[], ServingTarget]
    world: World
    replicas: int
    most: int
    addresses: Callable[[], Mapping[str, float]]
    environ: Mapping[str, str]
    shadow: bool = True
    sticky: bool = True
    cluster: Any = None
    tables: dict[int, RoutingTable] = field(default_factory=dict)

    @property
    def target(self) -> ServingTarget:
        return self.open()

    def route(self, champion: Variant, challenger: Variant | None = None, **fields: Any) -> int:
        """Makes this the routing table, and waits until all gateways follow; returns the generation."""
        generation = self.world.route(champion, challenger, **fields)
        found = self.world.ledger.route(FAMILY, generation)
        assert found is not None
        self.tables[generation] = found.table
        self.target.follow(FAMILY, generation, found.table, SECONDS)
        return generation

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline, self.target.status()
            time.sleep(0.2)
        return found

    def counted(self, generation: int, what: str) -> int:
        """Of all variants and gateways together; gateways tell each other within seconds."""
        variants = self.target.stats(FAMILY, generation)["variants"].values()
        return sum(variant[what] for variant in variants)

    def ready(self, replicas: int) -> Callable[[], bool]:
        def is_so() -> bool:
            status = self.target.status()
            return status.phase is TargetPhase.READY and status.ready == replicas

        return is_so


class Load:
    """Clients that ask without a pause, each question at one of the addresses of that moment, as a Service does it."""

    def __init__(self, bench: Bench, clients: int = 4) -> None:
        self.answers: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.by: Counter[str] = Counter()
        self._bench, self._clients, self._stop = bench, clients, False
        self._addresses: list[str] = []

    async def __aenter__(self) -> Load:
        await self._look()
        jobs = [self._client(number) for number in range(self._clients)]
        self._tasks = [asyncio.create_task(job) for job in [*jobs, self._follow()]]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def _follow(self) -> None:
        while not self._stop:
            await asyncio.sleep(0.3)
            await self._look()

    async def _look(self) -> None:
        weights = await asyncio.to_thread(self._bench.addresses)
        if found := [url for url, weight in weights.items() for _ in range(round(weight * 100))]:
            self._addresses = found

    async def _client(self, number: int) -> None:
        key = self._bench.environ.get("WINDTUNNEL_GATEWAY_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(timeout=20, headers=headers) as client:
            for count in itertools.count(number * 7):
                if self._stop:
                    return
                unit, url = f"u{number}-{count % _UNITS}", self._addresses[count * 37 % len(self._addresses)]
                try:
                    body = {"question": f"question {count}", "unit_id": unit}
                    response = await client.post(f"{url}/v1/ask", json=body)
                    if response.status_code == 200:
                        self.answers.append({**response.json(), "unit": unit})
                        self.by[url] += 1
                    else:
                        self.failures.append(f"{url} {response.status_code} {response.text}")
                except httpx.HTTPError as error:
                    self.failures.append(f"{url} {error!r}")
                await asyncio.sleep(0.005)


def under_load(bench: Bench, work: Callable[[], None]) -> Load:
    """Does the work while clients ask, and a little longer; no request may fail."""

    async def scenario() -> Load:
        async with Load(bench) as load:
            await asyncio.to_thread(work)
            await asyncio.sleep(0.5)
        return load

    load = asyncio.run(scenario())
    assert not load.failures, (len(load.failures), load.failures[:5])
    assert len(load.answers) > 50
    for answer in load.answers:
        variants = {variant.version: variant for variant in bench.tables[answer["generation"]].variants}
        assert answer["model_digest"] == variants[answer["model_version"]].digest
        assert answer["answer"].startswith(f"{answer['model_version']}: ")  # the model itself says who it is
        if bench.sticky:
            expected = assign(bench.tables[answer["generation"]], answer["unit"])
            assert (answer["model_version"], answer["variant"]) == (expected.version, expected.role.value)
    return load


class TargetConformance:
    """Inherited by the test class of each target."""

    def test_what_is_not_there_is_told_and_taken_away_without_trouble(self, bench: Bench) -> None:
        bench.target.undeploy()
        assert bench.target.status().phase is TargetPhase.ABSENT
        assert not bench.target.undeploy()
        with pytest.raises(GatewayError):
            bench.target.stats(FAMILY, 1)
        if bench.most > 1:
            with pytest.raises(UserError, match="nothing is deployed"):
                bench.target.scale(2)

    def test_traffic_moves_without_a_failed_request(self, bench: Bench) -> None:
        world = bench.world
        first, second = world.model("1.0.0", latency_ms=1), world.model("2.0.0", latency_ms=1)
        bench.target.deploy()  # where nothing serves yet, it comes up all the same
        generation = bench.route(first)
        assert generation == max(bench.tables)
        bench.wait_for(bench.ready(bench.replicas))

        def release() -> None:
            if bench.shadow:
                bench.route(first, second, shadow=True, rollout="r1")
            bench.route(first, second, challenger_share=0.2, rollout="r1")
            time.sleep(0.5)
            bench.route(first, second, challenger_share=0.5, rollout="r1")
            time.sleep(0.5)
            bench.route(second)  # promoted
            time.sleep(0.5)
            bench.route(first)  # rolled back

        load = under_load(bench, release)
        assert {answer["model_version"] for answer in load.answers} == {"1.0.0", "2.0.0"}
        assert bench.replicas == 1 or len(load.by) >= bench.replicas, "clients were not led to all gateways"
        for number, requests in Counter(answer["generation"] for answer in load.answers).items():
            bench.wait_for(lambda: bench.counted(number, "requests") == requests)
            assert bench.counted(number, "errors") == 0
        status = bench.target.status()
        assert [item["version"] for item in status.models[FAMILY]] == ["1.0.0"]
        assert status.models[FAMILY][0]["digest"] == first.digest

    def test_a_deploy_that_was_killed_is_continued(self, bench: Bench) -> None:
        """At whatever point the process died, the next one finishes its work, and does none of it twice."""
        program = (
            "import sys; from include.settings import Settings; from include.targets.open import open_target\n"
            "target = open_target(Settings.from_env()); print('begins', flush=True); target.deploy()"
        )
        bench.target.undeploy()
        for seconds in (0.05, 0.6):
            process = subprocess.Popen(
                [sys.executable, "-c", program],
                cwd=PROJECT_ROOT,
                env={**os.environ, **bench.environ},
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None and process.stdout.readline() == "begins\n"
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
            process.wait()
        bench.target.deploy()
        bench.wait_for(bench.ready(bench.replicas))
        assert bench.target.status().ready == bench.replicas
        assert bench.target.deploy().changed == ()

    def test_its_status_says_what_runs_since_when(self, bench: Bench) -> None:
        bench.target.deploy()
        generation = bench.route(bench.world.model("3.0.0"))
        bench.wait_for(bench.ready(bench.replicas))
        status = bench.target.status()
        assert (status.ready, status.wanted) == (bench.replicas, bench.replicas), status
        serving = [replica for replica in status.replicas if replica.ready]
        assert {replica.generations[FAMILY] for replica in serving} == {generation}
        assert all(replica.since and replica.current and not replica.why for replica in serving)
        shown = status.to_json()
        assert (shown["phase"], shown["ready"]) == ("ready", bench.replicas)
        assert json.loads(json.dumps(shown)) == json.loads(json.dumps(status.to_json()))

    def test_a_model_that_cannot_be_loaded_is_told_and_the_one_before_serves_on(self, bench: Bench) -> None:
        good = bench.world.model("4.0.0")
        bench.target.deploy()
        before = bench.route(good)
        with pytest.raises(GatewayError, match="no such operator"):
            bench.route(bench.world.model("5.0.0", load_error="no such operator"))
        status = bench.target.status()
        assert status.phase is TargetPhase.DEGRADED and "no such operator" in " ".join(status.why)
        assert {replica.generations[FAMILY] for replica in status.replicas if replica.ready} == {before}
        bench.route(good)
        bench.wait_for(bench.ready(bench.replicas))

    def test_it_is_scaled_under_load_until_told_otherwise(self, bench: Bench) -> None:
        bench.target.deploy()
        bench.route(bench.world.model("6.0.0", latency_ms=1))
        bench.wait_for(bench.ready(bench.replicas))
        if bench.most == 1:
            with pytest.raises(UserError, match="one gateway"):
                bench.target.scale(2)
            return

        def work() -> None:
            bench.target.scale(bench.most)
            bench.wait_for(bench.ready(bench.most))
            bench.target.deploy()  # a release in between does not take it back
            assert bench.target.status().ready == bench.most
            bench.target.scale(None)
            bench.wait_for(bench.ready(bench.replicas))

        under_load(bench, work)
        with pytest.raises(UserError, match="fewer than one"):
            bench.target.scale(0)

    def test_it_is_taken_away(self, bench: Bench) -> None:
        bench.target.deploy()
        assert bench.target.undeploy()
        assert bench.target.status().phase is TargetPhase.ABSENT
        assert not bench.addresses()
        assert not bench.target.undeploy()
