"""`windtunnel rollout`: what a person on call types while a candidate has live traffic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from include.release import gateway
from include.release.ledger import Event, Ledger
from include.settings import Settings
from include.spec import load_family
from include.store.objects import open_store
from tests.cli.conftest import AT, CHALLENGER, CHAMPION, FAMILY, Result

Windtunnel = Callable[..., Result]


@pytest.fixture
def canary(story: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The story of a rollout in its canary, with a gateway that follows and has seen a little."""
    identity = CHALLENGER.model_dump(exclude={"role"})
    release = load_family(FAMILY).release
    record: dict[str, Any] = {
        "rollout": "1.1.0-x", "candidate": identity, "champion": CHAMPION.model_dump(mode="json", exclude={"role"}),
        "stages": [stage.name for stage in release.stages], "plan": release.model_dump(mode="json"), "generation": 1,
    }  # fmt: skip
    say: dict[str, Any] = {"actor": "tests", "at": AT, "model_version": "1.1.0"}
    story.append(FAMILY, Event.ROLLOUT_BEGUN, key="begun:1.1.0-x", record=record, **say)
    for stage in ("shadow", "canary"):
        story.append(FAMILY, Event.STAGE_ENTERED, key=f"entered:1.1.0-x:{stage}", record={"stage": stage}, **say)
    judged = {"stage": "shadow", "traffic": 0.0, "shadow": True, "verdict": "PASS", "generation": 1}
    story.append(FAMILY, Event.STAGE_JUDGED, key="judged:1.1.0-x:shadow", record=judged, **say)
    seen = {"requests": 9, "errors": 0, "latency_p50_ms": 1.0, "latency_p95_ms": 2.0}
    monkeypatch.setattr(gateway, "stats", lambda *_: {"variants": {"champion": seen, "challenger": seen}})
    monkeypatch.setattr(gateway, "wait_for_generation", lambda *_, **__: 0.0)
    return story


def test_pause_is_shown_and_resume_ends_it(windtunnel: Windtunnel, canary: Ledger) -> None:
    assert windtunnel("rollout", "pause", FAMILY, "--reason", "odd answers", "--json").json["stage"] == "canary"
    assert "paused already" in windtunnel("rollout", "pause", FAMILY, "--reason", "again").out
    shown = windtunnel("status").out
    assert "PAUSED by" in shown and "odd answers" in shown
    assert windtunnel("status", "--json").json["families"][FAMILY]["rollout"]["paused"]["reason"] == "odd answers"
    assert "goes on" in windtunnel("rollout", "resume", FAMILY, "--reason", "looked at them").out
    assert "PAUSED" not in windtunnel("status").out
    assert "odd answers" in windtunnel("ledger", FAMILY).out


def test_promote_names_the_stages(windtunnel: Windtunnel, canary: Ledger) -> None:
    done = windtunnel("rollout", "promote", FAMILY, "--full", "--reason", "seen enough", "--json").json
    assert done["waved_on"] == ["canary", "half"]
    assert "waved on from half by" in windtunnel("status").out


def test_promote_is_refused_where_nobody_can_see(
    windtunnel: Windtunnel, canary: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise gateway.GatewayError("connection refused")

    monkeypatch.setattr(gateway, "stats", away)
    result = windtunnel("rollout", "promote", FAMILY, "--reason", "hurry")
    assert result.code == 1
    assert "nobody can say how the candidate does" in result.err


def test_abort_takes_traffic_back(
    windtunnel: Windtunnel, canary: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.release import moves, takedown

    open_store(settings.store_url)
    monkeypatch.setattr(takedown, "first_that_loads", lambda settings, family, variants: (next(iter(variants)), []))
    monkeypatch.setattr(moves, "sync_aliases", lambda *_: None)
    result = windtunnel("rollout", "abort", FAMILY, "--reason", "wrong law")
    assert result.code == 0, result.err
    assert "version 1.0.0 has all traffic" in result.out
    route = canary.route(FAMILY)
    assert route is not None
    assert (route.table.champion.version, route.table.challenger) == ("1.0.0", None)
    assert "aborted: wrong law" in windtunnel("ledger", FAMILY).out


@pytest.mark.parametrize("what", ["pause", "resume", "abort", "promote"])
def test_without_a_rollout_it_says_so(windtunnel: Windtunnel, settings: Settings, what: str) -> None:
    result = windtunnel("rollout", what, FAMILY, "--reason", "x")
    assert result.code == 2
    assert "no rollout" in result.err and "what to do" in result.err
    assert windtunnel("rollout", what, FAMILY).code == 2, "a reason is required"
