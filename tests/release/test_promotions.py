"""Promotions and rollbacks under steady load from a second process: nobody notices any of them.

Two of each in the suite; `WINDTUNNEL_PROMOTIONS=50 pytest -s tests/release/test_promotions.py` for more, with times.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from include.release import engine, judging
from include.release.ledger import Event, Ledger, Route
from include.release.registry import NO_MLFLOW
from include.release.rollback import all_to, revert
from include.release.routing import Role, Variant, assign
from include.settings import PROJECT_ROOT, Settings
from include.store.database import open_database
from include.store.objects import open_store
from tests.fakes.tiny_family import FAMILY, tiny_package, tiny_spec
from tests.release.test_live import registered
from tests.serving.conftest import Gateways

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

TIMES = int(os.environ.get("WINDTUNNEL_PROMOTIONS", "2"))
RATE = 40
STAGE = {"min_seconds": 0.2, "max_seconds": 120, "min_requests": 5, "min_labels": 0}
STAGES = [
    {"name": "shadow", "traffic": 0, "shadow": True, **STAGE},
    {"name": "canary", "traffic": 0.1, **STAGE},
    {"name": "half", "traffic": 0.5, **STAGE},
    {"name": "full", "traffic": 1.0, **STAGE},
]
SPEC = tiny_spec(
    release={"bootstrap": None, "stages": STAGES, "guardrails": {"latency_floor_ms": 5000}, "load_check_seconds": 0.1}
)


@dataclass
class Flown:
    """What happened: every request, every table, and when the gateway was known to serve it."""

    ledger: Ledger
    base: Variant
    asked: list[dict[str, Any]]
    confirmed: list[tuple[float, int]] = field(default_factory=list)
    promoted: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    reverted: list[float] = field(default_factory=list)
    counted: int = 0

    def routes(self) -> dict[int, Route]:
        newest = self.ledger.route(FAMILY)
        assert newest is not None
        found = [newest, *self.ledger.routes_before(FAMILY, newest.generation, limit=10_000)]
        return {route.generation: route for route in found}


def fly(settings: Settings, version: str, flown: Flown) -> None:
    """The release as the DAG runs it."""
    now = lambda: datetime.now(UTC)  # noqa: E731
    began = time.monotonic()
    begun = engine.begin(settings, SPEC, version, run=f"release/{version}", actor="test", at=now())
    for stage in begun["stages"]:
        entered = engine.enter_stage(settings, SPEC, begun["rollout"], stage, actor="test", at=now())
        flown.confirmed.append((time.time(), entered["generation"]))
        while (found := judging.judge(settings, SPEC, begun["rollout"], stage, at=now()))["wait"]:
            time.sleep(0.05)
        assert found["verdict"] == "PASS", found["why"]
    moving = time.monotonic()
    done = engine.promote(settings, SPEC, begun["rollout"], actor="test", at=now())
    flown.confirmed.append((time.time(), done["generation"]))
    flown.promoted.append(time.monotonic() - began)
    flown.moved.append(time.monotonic() - moving)


@pytest.fixture(scope="module")
def flown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flown]:
    """So many promotions, each rolled back, while a second process asks."""
    folder = tmp_path_factory.mktemp("promotions")
    settings = replace(Settings.from_env({"WINDTUNNEL_HOME": str(folder / "home")}), mlflow_url=NO_MLFLOW)
    ledger = Ledger(open_database(settings.database_url))
    digest = tiny_package(open_store(settings.store_url), folder / "base", seed=99)
    base = Variant(role=Role.CHAMPION, version="0.9.0", digest=digest)
    ledger.swap_route(FAMILY, 0, all_to(base), reason="test", actor="test", at=datetime.now(UTC))
    gateways = Gateways(settings, folder)
    gateway = gateways()
    settings = replace(settings, gateway_url=gateway.url)
    gateway.wait_for(lambda: gateway.routes(FAMILY).get("generation") == 1)
    command = [sys.executable, "-m", "tests.fakes.asker", gateway.url, FAMILY, str(folder / "asked.jsonl")]
    users = subprocess.Popen([*command, "--rate", str(RATE), "--units", "80"], cwd=PROJECT_ROOT)
    found = Flown(ledger, base, [])
    try:
        for number in range(TIMES):
            fly(settings, registered(settings, folder / str(number), skill=0.9, seed=number), found)
            back = revert(settings, FAMILY, to=None, reason="proof", actor="on call", at=datetime.now(UTC))
            found.confirmed.append((time.time(), back["generation"]))
            found.reverted.append(back["gateway_seconds"])
            assert back["to"] == base.version
        time.sleep(0.5)
    finally:
        users.send_signal(signal.SIGTERM)
        users.wait(timeout=60)
    found.asked = [json.loads(line) for line in (folder / "asked.jsonl").read_text().splitlines()]
    text = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
    found.counted = sum(
        int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "windtunnel_requests_total" and sample.labels["lane"] == "live"
    )
    gateways.end()
    summary = {
        "promotions": len(found.promoted),
        "rollbacks": len(found.reverted),
        "requests": len(found.asked),
        "failed": sum(line["status"] != 200 for line in found.asked),
        "seconds_per_rollout": round(statistics.median(found.promoted), 2),
        "seconds_per_promotion_at_the_gateway": round(statistics.median(found.moved), 3),
        "seconds_per_rollback_at_the_gateway": round(statistics.median(found.reverted), 3),
        "slowest_of_each": [round(max(times), 2) for times in (found.promoted, found.moved, found.reverted)],
    }
    print(json.dumps(summary))
    yield found


def test_no_request_fails(flown: Flown) -> None:
    assert len(flown.asked) > TIMES * 30
    assert [line for line in flown.asked if line["status"] != 200] == []


def test_every_answer_comes_from_the_model_that_the_table_names(flown: Flown) -> None:
    routes = flown.routes()
    for line in flown.asked:
        wanted = assign(routes[line["generation"]].table, line["unit"])
        assert (line["version"], line["digest"], line["role"]) == (wanted.version, wanted.digest, wanted.role.value)
    assert {line["generation"] for line in flown.asked} >= set(routes) - {max(routes)}


def test_nobody_gets_an_older_table_than_the_gateway_had_confirmed(flown: Flown) -> None:
    for line in flown.asked:
        known = max((generation for at, generation in flown.confirmed if at < line["sent"]), default=1)
        assert line["generation"] >= known


def test_a_unit_that_came_to_the_candidate_stays_there_until_it_is_rolled_back(flown: Flown) -> None:
    routes, seen = flown.routes(), defaultdict[tuple[str, str], list[tuple[int, bool]]](list)
    for line in flown.asked:
        table = routes[line["generation"]].table
        if table.rollout and not table.shadow:  # a person's rollback belongs to none
            candidate = table.challenger or table.champion
            seen[table.rollout, line["unit"]].append((line["generation"], line["version"] == candidate.version))
    moved = 0
    for visits in seen.values():
        came = [is_new for _, is_new in sorted(visits)]
        assert came == sorted(came), "a unit went back and forth"
        moved += came[0] is False and came[-1] is True
    assert moved > 0


def test_the_ledger_tells_what_happened(flown: Flown) -> None:
    routes = flown.routes()
    assert sorted(routes) == list(range(1, 1 + len(routes)))
    assert len(routes) == 1 + TIMES * (len(STAGES) + 2)
    promoted = flown.ledger.entries(FAMILY, frozenset({Event.PROMOTED}), limit=1000)
    reverted = flown.ledger.entries(FAMILY, frozenset({Event.ROLLED_BACK}), limit=1000)
    assert (len(promoted), len(reverted)) == (TIMES, TIMES)
    for entry in promoted:
        route = routes[entry.record["generation"]]
        assert route.table.champion.version == entry.model_version
        assert (route.table.challenger, route.table.stage) == (None, "")
    for entry in reverted:
        assert routes[entry.record["generation"]].table.champion == flown.base
        assert entry.record["from"] == entry.model_version
    last = flown.ledger.route(FAMILY)
    assert last is not None
    assert last.table.champion == flown.base


def test_the_gateway_counted_every_answer_once(flown: Flown) -> None:
    assert flown.counted == len(flown.asked)
