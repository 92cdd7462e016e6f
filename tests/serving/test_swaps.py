"""Changes of traffic under load, crashes and restarts, on real gateway processes."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from include.release.routing import RoutingTable, assign
from include.serving.package import package_prefix
from include.serving.predictions import read_feedback, read_predictions
from tests.serving.conftest import FAMILY, Gateways, RunningGateway, World

pytestmark = pytest.mark.slow


class Load:
    """Clients that ask without a pause; keeps every answer and everything that was not one."""

    def __init__(self, url: str, clients: int = 6) -> None:
        self.answers: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self._url = url
        self._clients = clients
        self._stop = False

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def _client(self, number: int) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=20) as client:
            count = 0
            while not self._stop:
                unit = f"u{number}-{count % 50}"
                count += 1
                try:
                    response = await client.post("/v1/ask", json={"question": f"question {count}", "unit_id": unit})
                    if response.status_code == 200:
                        self.answers.append({**response.json(), "unit": unit})
                    else:
                        self.failures.append(f"{response.status_code} {response.text}")
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))


async def wait_generation(url: str, generation: int) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        for _ in range(600):
            if (await client.get("/v1/routes")).json()[FAMILY]["generation"] == generation:
                return
            await asyncio.sleep(0.02)
    raise AssertionError(f"generation {generation} never came")


def test_two_dozen_changes_of_traffic_fail_no_request(world: World, start_gateway: Gateways) -> None:
    models = [world.model(f"{number}.0.0", latency_ms=1) for number in range(1, 5)]
    tables: dict[int, RoutingTable] = {}

    def route(*args: Any, **fields: Any) -> int:
        generation = world.route(*args, **fields)
        found = world.ledger.route(FAMILY, generation)
        assert found is not None
        tables[generation] = found.table
        return generation

    generation = route(models[0])
    gateway = start_gateway()
    gateway.wait_generation(generation)

    async def scenario() -> Load:
        async with Load(gateway.url) as load:
            while not load.answers:  # some must be answered by the first table
                await asyncio.sleep(0.01)
            for step in range(24):
                old, new = models[step % 4], models[(step + 1) % 4]
                kind = step % 4
                if kind == 0:
                    number = route(old, new, shadow=True, rollout=f"r{step}")
                elif kind == 1:
                    number = route(old, new, challenger_share=0.5, rollout=f"r{step}")
                elif kind == 2:
                    number = route(new)  # promoted
                else:
                    number = route(models[0])  # rolled back
                await wait_generation(gateway.url, number)
                await asyncio.sleep(0.05)
        return load

    load = asyncio.run(scenario())
    assert not load.failures, load.failures[:5]
    assert len(load.answers) > 500
    assert {answer["generation"] for answer in load.answers} >= set(range(1, 26))
    for answer in load.answers:
        expected = assign(tables[answer["generation"]], answer["unit"])
        assert (answer["model_version"], answer["variant"]) == (expected.version, expected.role.value)
        assert answer["model_digest"] == expected.digest
        assert answer["answer"].startswith(f"{expected.version}: ")  # the model itself says who it is

    counted = Counter(answer["generation"] for answer in load.answers)
    for number, requests in counted.items():
        variants = gateway.stats(generation=number)["variants"]
        assert sum(variant["requests"] for variant in variants.values()) == requests
        assert sum(variant["errors"] for variant in variants.values()) == 0


def test_a_unit_stays_with_its_variant_while_a_rollout_grows(world: World, start_gateway: Gateways) -> None:
    champion, challenger = world.model("1.0.0"), world.model("2.0.0")
    gateway: RunningGateway | None = None
    new_ones: list[set[str]] = []
    for share in (0.05, 0.5, 1.0):
        generation = world.route(champion, challenger, challenger_share=share, rollout="r1")
        gateway = gateway or start_gateway()
        gateway.wait_generation(generation)
        answers = {f"u{n}": gateway.ask(unit_id=f"u{n}").json()["model_version"] for n in range(200)}
        assert answers == {f"u{n}": gateway.ask(unit_id=f"u{n}").json()["model_version"] for n in range(200)}
        new_ones.append({unit for unit, version in answers.items() if version == "2.0.0"})
    assert new_ones[0] < new_ones[1] < new_ones[2]
    assert 2 <= len(new_ones[0]) <= 25 and 70 <= len(new_ones[1]) <= 130 and len(new_ones[2]) == 200


def test_the_shadow_answers_the_same_requests_and_nobody_sees_it(world: World, start_gateway: Gateways) -> None:
    challenger = world.model("2.0.0", latency_ms=30, fail_on="boom", passages=["9:9"], confidence=0.3)
    generation = world.route(world.model("1.0.0"), challenger, shadow=True, rollout="r1", stage="shadow")
    gateway = start_gateway()
    gateway.wait_generation(generation)
    started = time.monotonic()
    ids = []
    for number in range(20):
        answer = gateway.ask("boom" if number < 2 else "why?").json()
        assert answer["model_version"] == "1.0.0"
        ids.append(answer["request_id"])
    assert time.monotonic() - started < 20 * 0.03, "clients waited for the shadow"
    for request_id in ids[:10]:  # the truth may be faster than the shadow
        gateway.client.post("/v1/feedback", json={"request_id": request_id, "truth": {"citations": ["1:1"]}})
    gateway.wait_for(lambda: gateway.stats()["variants"]["challenger"]["shadow"]["requests"] == 20)
    for request_id in ids[10:]:
        gateway.client.post("/v1/feedback", json={"request_id": request_id, "truth": {"citations": ["9:9"]}})
    stats = gateway.stats()
    champion, shadow = stats["variants"]["champion"], stats["variants"]["challenger"]["shadow"]
    assert stats["variants"]["challenger"]["requests"] == 0
    assert (champion["requests"], champion["errors"], champion["labels"]) == (20, 0, 20)
    assert (shadow["requests"], shadow["errors"], shadow["labels"]) == (20, 2, 18)
    assert champion["quality"]["hit_at_1"]["mean"] == 0.5
    assert shadow["quality"]["hit_at_1"]["mean"] == pytest.approx(10 / 18)
    assert (shadow["quality"]["confidence"]["mean"], shadow["quality"]["confidence"]["n"]) == (pytest.approx(0.3), 18)
    assert stats["paired"]["hit_at_1"]["n"] == 18
    assert stats["paired"]["hit_at_1"]["mean"] == pytest.approx((10 - 8) / 18)
    assert 30 <= shadow["latency_p50_ms"] < 90


def test_a_slow_shadow_loses_copies_and_says_so(world: World, start_gateway: Gateways) -> None:
    generation = world.route(world.model("1.0.0"), world.model("2.0.0", latency_ms=500), shadow=True)
    gateway = start_gateway()
    gateway.wait_generation(generation)
    for _ in range(280):
        assert gateway.ask().status_code == 200
    lane = gateway.stats()["shadow_lane"]
    assert lane["dropped"] > 0 and lane["waiting"] <= 256


def test_a_package_that_cannot_be_loaded_leaves_the_old_table(world: World, start_gateway: Gateways) -> None:
    good = world.model("1.0.0")
    gateway = start_gateway()
    gateway.wait_generation(world.route(good))
    bad = world.model("2.0.0")
    key = f"{package_prefix(FAMILY, bad.digest)}/echo.json"
    original = world.store.get(key)
    world.store.put(key, original.replace(b"2.0.0", b"6.6.6"))
    generation = world.route(bad)
    gateway.wait_for(lambda: gateway.routes()["failed"])
    routes = gateway.routes()
    assert routes["generation"] == 1 and routes["failed"]["generation"] == generation
    assert "altered" in routes["failed"]["error"]
    assert gateway.ask().json()["model_version"] == "1.0.0"
    raising = world.model("3.0.0", load_error="no such operator")
    generation = world.route(raising)
    gateway.wait_for(lambda: gateway.routes()["failed"]["generation"] == generation)
    assert "no such operator" in gateway.routes()["failed"]["error"]
    world.store.put(key, original)  # mended: routing to it again works, also without a new generation
    gateway.wait_generation(world.route(bad))
    assert gateway.routes()["failed"] is None
    assert gateway.ask().json()["model_version"] == "2.0.0"


def test_killed_and_restarted_it_serves_the_newest_route(world: World, start_gateway: Gateways) -> None:
    gateway = start_gateway()
    gateway.wait_generation(world.route(world.model("1.0.0")))
    gateway.ask("before the kill")
    time.sleep(2.5)  # one flush of the prediction log
    gateway.ask("perhaps lost")
    assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
    generation = world.route(world.model("2.0.0"))
    again = start_gateway()
    again.wait_generation(generation)
    assert again.ask("after the kill").json()["model_version"] == "2.0.0"
    assert again.stop() == 0
    questions = [row["inputs"]["question"] for row in rows(world)]
    assert questions in (["before the kill", "after the kill"], ["before the kill", "perhaps lost", "after the kill"])


def test_after_a_restart_a_broken_challenger_does_not_take_the_champion_down(
    world: World, start_gateway: Gateways
) -> None:
    champion, broken = world.model("1.0.0"), world.model("2.0.0", load_error="broken")
    world.route(champion, broken, challenger_share=0.5, rollout="r1")
    gateway = start_gateway()
    gateway.wait_for(lambda: gateway.routes().get("degraded"))
    assert {gateway.ask(unit_id=f"u{n}").json()["model_version"] for n in range(20)} == {"1.0.0"}
    assert gateway.routes()["failed"]["generation"] == 1
    gateway.wait_generation(world.route(champion))
    assert gateway.routes()["degraded"] is False


def test_a_damaged_cache_is_replaced_from_the_store(world: World, start_gateway: Gateways) -> None:
    model = world.model("1.0.0")
    world.route(model)
    first = start_gateway()
    first.wait_generation(1)
    assert first.stop() == 0
    cached = next(Path(world.settings.home, "cache").rglob("echo.json"))
    cached.write_text(json.dumps({"name": "evil"}))
    second = start_gateway()
    second.wait_generation(1)
    assert second.ask("q").json()["answer"] == "1.0.0: q"


def test_the_ledger_may_go_away(world: World, start_gateway: Gateways) -> None:
    gateway = start_gateway()
    gateway.wait_generation(world.route(world.model("1.0.0")))
    with sqlite3.connect(Path(world.settings.home, "db", "ledger.db")) as database:
        database.execute("ALTER TABLE routes RENAME TO gone")
    gateway.wait_for(lambda: gateway.routes()["ledger_error"])
    assert gateway.ask().json()["model_version"] == "1.0.0"
    assert "windtunnel_ledger_up 0.0" in gateway.client.get("/metrics").text
    with sqlite3.connect(Path(world.settings.home, "db", "ledger.db")) as database:
        database.execute("ALTER TABLE gone RENAME TO routes")
    gateway.wait_for(lambda: not gateway.routes()["ledger_error"])
    gateway.wait_generation(world.route(world.model("2.0.0")))


def test_a_clean_stop_finishes_requests_and_writes_the_log(world: World, start_gateway: Gateways) -> None:
    world.route(world.model("1.0.0", latency_ms=700))
    gateway = start_gateway()
    gateway.wait_generation(1)

    async def stop_while_asking() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
            asked = [asyncio.create_task(client.post("/v1/ask", json={"question": f"q{n}"})) for n in range(3)]
            await asyncio.sleep(0.3)
            gateway.process.send_signal(signal.SIGTERM)
            return list(await asyncio.gather(*asked))

    responses = asyncio.run(stop_while_asking())
    assert [response.status_code for response in responses] == [200, 200, 200]
    assert gateway.process.wait(timeout=20) == 0
    assert sorted(row["inputs"]["question"] for row in rows(world)) == ["q0", "q1", "q2"]


def test_every_answer_and_every_feedback_is_in_the_log_once(world: World, start_gateway: Gateways) -> None:
    gateway = start_gateway()
    gateway.wait_generation(world.route(world.model("1.0.0"), world.model("2.0.0"), challenger_share=0.5, rollout="r"))
    before = datetime.now(UTC)
    asked = {gateway.ask(f"q{n}", unit_id=f"u{n}").json()["request_id"]: n for n in range(600)}
    for request_id in list(asked)[:50]:
        gateway.client.post("/v1/feedback", json={"request_id": request_id, "truth": {"citations": ["1:1"]}})
    assert gateway.stop() == 0
    found = rows(world)
    assert {row["request_id"]: row["unit_id"] for row in found} == {key: f"u{n}" for key, n in asked.items()}
    assert len(found) == 600
    row = found[0]
    assert row["outputs"] == {"answer": f"{row['version']}: q0", "passages": ["1:1", "1:2"], "score": 2.0}
    assert (row["family"], row["generation"], row["shadow"], row["error"]) == (FAMILY, 1, False, None)
    assert row["latency_ms"] > 0 and row["role"] in {"champion", "challenger"} and len(row["digest"]) == 64
    feedback = list(read_feedback(world.store, FAMILY, before, datetime.now(UTC) + timedelta(seconds=1)))
    assert len({row["request_id"] for row in feedback}) == len(feedback) == 50
    assert feedback[0]["labels"] == {"hit_at_1": 1.0} and feedback[0]["truth"] == {"citations": ["1:1"]}


def rows(world: World) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return list(read_predictions(world.store, FAMILY, now - timedelta(hours=1), now + timedelta(hours=1)))
