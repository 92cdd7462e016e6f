"""What would take a gateway along, or keep memory, is found out in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from include.release import engine, load_check
from include.release.drill.faults import Fault, FaultPlan, allow, spoil
from include.release.ledger import Event
from include.serving.package import publish
from include.serving.soak import PARTS, soak
from include.settings import Settings
from include.spec.models import FamilySpec
from include.store.objects import open_store
from tests.fakes.tiny_family import CODE, FAMILY, TinyRuntime, tiny_package, tiny_spec
from tests.release.conftest import START, Tunnel


def spec(**guardrails: Any) -> FamilySpec:
    release = tiny_spec().release.model_dump()
    return tiny_spec(release={**release, "load_check_seconds": 0.5, "guardrails": guardrails})


def checked(settings: Settings, digest: str, **guardrails: Any) -> dict[str, Any]:
    return load_check.check(settings, spec(**guardrails), digest, at=START)


def bad_package(settings: Settings, folder: Path, fault: Fault, **plan: Any) -> str:
    """A tiny model with a fault; its installation lets it load."""
    allow(settings.home)
    store = open_store(settings.store_url)
    tiny_package(store, folder / "good")
    package = spoil(folder / "good", folder / "bad", FaultPlan(fault=fault, code=CODE, **plan))
    publish(store, folder / "bad")
    return package.digest


class TestCheck:
    def test_a_good_package_loads_and_answers(self, settings: Settings, tmp_path: Path) -> None:
        digest = tiny_package(open_store(settings.store_url), tmp_path / "good")
        found = checked(settings, digest, max_memory_growth_mb=100)
        assert (found["verdict"], found["errors"], len(found["memory_mb"])) == ("PASS", 0, PARTS)
        assert found["requests"] > 10

    @pytest.mark.parametrize(("abruptly", "why"), [(True, "killed by SIGSEGV"), (False, "it does not load")])
    def test_one_that_crashes_when_it_loads(self, settings: Settings, tmp_path: Path, abruptly: bool, why: str) -> None:
        digest = bad_package(settings, tmp_path, Fault.CRASHING, abruptly=abruptly)
        found = checked(settings, digest)
        assert found["verdict"] == "FAIL"
        assert why in found["why"][0]

    def test_one_that_keeps_memory_of_every_request(self, settings: Settings, tmp_path: Path) -> None:
        digest = bad_package(settings, tmp_path, Fault.LEAKING, kilobytes=100)
        found = checked(settings, digest, max_memory_growth_mb=2000)
        assert found["verdict"] == "FAIL"
        assert "it keeps growing" in found["why"][0]
        assert checked(settings, digest)["verdict"] == "PASS", "nobody set a limit"

    def test_one_that_hangs(self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(load_check, "LOAD_SECONDS", 0.5)
        digest = tiny_package(open_store(settings.store_url), tmp_path / "slow", ms=60_000)
        assert "did not load and answer within 1 s" in checked(settings, digest)["why"][0]

    def test_it_asks_what_users_asked(self, settings: Settings, tmp_path: Path) -> None:
        store = open_store(settings.store_url)
        digest = bad_package(settings, tmp_path, Fault.FAILING, share=0.3, after=5)
        assert checked(settings, digest)["verdict"] == "PASS", "made-up requests may be wrong"
        rows = [
            {"kind": "prediction", "at": START.isoformat(), "inputs": {"question": f"rule {number}?"}}
            for number in range(50)
        ]
        lines = "\n".join(json.dumps({**row, "at": "2026-11-01T10:00:00+00:00"}) for row in rows)
        store.put(f"predictions/{FAMILY}/2026-11-01/100000.000000-x-000000.jsonl", lines.encode())
        found = checked(settings, digest)
        assert found["verdict"] == "FAIL"
        assert "recent requests (RuntimeError" in found["why"][0]


class TestSoak:
    """In this process, with a clock and a memory that the test moves."""

    def sizes(self, *memory: float, requests: int = 1000) -> dict[str, Any]:
        return {"requests": requests, "errors": 0, "real": False, "memory_mb": list(memory)}

    def verdict(self, found: dict[str, Any], limit: float | None = 100.0) -> str:
        return str(load_check.judge(found, spec(max_memory_growth_mb=limit))["verdict"])

    @pytest.mark.parametrize(
        ("memory", "expected"),
        [
            ((200, 200, 200, 200, 200), "PASS"),
            ((100, 350, 350, 350, 350), "FAIL"),  # much at once
            ((200, 202, 204, 206, 208), "FAIL"),  # 1 MB per hundred requests, for ever
            ((200, 208, 208, 208, 208), "PASS"),  # a buffer that found its size
            ((200, 200.3, 200.6, 200.9, 201.2), "PASS"),  # noise
            ((), "PASS"),  # the system does not tell
        ],
    )
    def test_memory_that_grows_on_is_a_leak(self, memory: tuple[float, ...], expected: str) -> None:
        assert self.verdict(self.sizes(*memory)) == expected

    def test_without_a_limit_nobody_looks(self) -> None:
        assert self.verdict(self.sizes(100, 9e9), limit=None) == "PASS"

    def test_it_asks_at_least_once_and_reads_memory_after_every_part(self) -> None:
        sizes = iter(range(PARTS))
        found = soak(TinyRuntime({"skill": 1.0}), [{"question": "why"}], 0.0, memory=lambda: float(next(sizes)))
        assert (found["requests"], found["memory_mb"], found["real"]) == (1, [0, 1, 2, 3, 4], True)


class TestBegin:
    """What the rollout makes of it."""

    def test_a_candidate_that_fails_has_no_traffic_and_is_told_whenever_asked(self, tunnel: Tunnel) -> None:
        version = tunnel.register()["model_version"]
        tunnel.gateway.broken = "its process was killed by SIGSEGV"
        for _ in range(2):
            with pytest.raises(load_check.LoadCheckFailed, match="SIGSEGV"):
                tunnel.begin(version)
        route = tunnel.ledger.route(FAMILY)
        assert route is not None
        assert (route.generation, route.table.champion.version) == (1, "0.1.0")
        events = [entry.event for entry in tunnel.ledger.entries(FAMILY)]
        assert [events.count(event) for event in (Event.LOAD_CHECKED, Event.ROLLED_BACK)] == [1, 1]
        tunnel.gateway.broken = ""
        with pytest.raises(load_check.LoadCheckFailed):
            tunnel.begin(version)
        assert tunnel.begin(version, run="release/2")["skip"] is None, "a new release tries again"

    def test_a_worker_that_dies_over_the_check_leaves_it_to_the_next(
        self, tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        version = tunnel.register()["model_version"]
        with monkeypatch.context() as patch:
            patch.setattr(load_check, "check", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                tunnel.begin(version)
        tunnel.gateway.broken = "it does not load"
        with pytest.raises(load_check.LoadCheckFailed):
            tunnel.begin(version)
        with pytest.raises(Exception, match="has ended"):
            engine.enter_stage(
                tunnel.settings,
                tunnel.spec,
                tunnel.ledger.entries(FAMILY, frozenset({Event.ROLLOUT_BEGUN}))[0].record["rollout"],
                "shadow",
                actor="me",
                at=tunnel.now,
            )
