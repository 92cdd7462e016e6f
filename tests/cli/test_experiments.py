"""`windtunnel experiment`: for the person who plans one, and for the one who reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.release import gateway
from include.release.experiments import trial
from include.release.ledger import Ledger
from include.release.routing import RoutingTable, assign
from include.settings import Settings
from include.store.objects import open_store
from tests.cli.conftest import AT, CHAMPION, FAMILY, Result

QUESTION = ("--baseline", "0.5", "--mde", "0.05")
CREATE = ("--challenger", "1.1.0", "--metric", "hit_at_1", "--max-days", "14", "--guardrail", "error:lower=0.05")


@pytest.fixture
def ready(story: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The story, with its rollout over; packages and gateway are not what these tests are about."""
    story.swap_route(FAMILY, 2, RoutingTable(champion=CHAMPION), reason="taken back", actor="tests", at=AT)
    monkeypatch.setattr(trial, "verify_stored", lambda *_: None)
    monkeypatch.setattr(gateway, "wait_for_generation", lambda *_, **__: 0.0)
    return story


def answers(settings: Settings, ledger: Ledger, count: int, rate: Callable[[str], float]) -> None:
    route = ledger.route(FAMILY)
    assert route is not None
    at = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        version = assign(route.table, f"u{number}").version
        shared = {"request_id": f"r{number}", "at": at.isoformat(), "family": FAMILY}
        asked = {"version": version, "generation": route.generation, "unit_id": f"u{number}"}
        lane = {"shadow": False, "direct": False, "latency_ms": 5.0, "error": None}
        rows.append({"kind": "prediction", **shared, **asked, **lane})
        hit = float(number % 100 < 100 * rate(version))
        rows.append({"kind": "feedback", **shared, "labels": {"hit_at_1": hit}, "helpful": None})
    data = b"\n".join(json.dumps(row).encode() for row in rows) + b"\n"
    open_store(settings.store_url).put(f"predictions/{FAMILY}/{at.date()}/000000.000000-test-000000.jsonl", data)


def test_a_plan_says_how_many_and_how_long(windtunnel: Callable[..., Result]) -> None:
    found = windtunnel("experiment", "plan", *QUESTION, "--units-per-day", "1000", "--json")
    assert found.code == 0
    assert found.json["once"] == [1565, 1565]
    assert found.json["always"][0] > 2800 and found.json["days"] > found.json["days_once"] > 4
    assert "at most 2997 units per variant" in windtunnel("experiment", "plan", *QUESTION).out
    assert windtunnel("experiment", "plan", "--baseline", "2", "--mde", "0.1").code == 2


def test_from_declaration_to_stop(
    windtunnel: Callable[..., Result], ready: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = windtunnel("experiment", "create", FAMILY, "trial", *QUESTION, *CREATE)
    assert begun.code == 0, begun.err
    assert "1.1.0: at most" in begun.out
    shown = windtunnel("status", "--json").json["families"][FAMILY]["route"]
    assert [arm["weight"] for arm in shown["arms"]] == [1.0, 1.0]
    assert "50%" in windtunnel("status").out
    early = windtunnel("experiment", "status", FAMILY, "trial")
    assert "CONTINUE" in early.out and "it may not say whether 1.1.0 is better" in early.out

    answers(settings, ready, 4000, lambda version: 0.7 if version == "1.1.0" else 0.5)
    import include.cli.experiments as command

    monkeypatch.setattr(command, "_now", lambda: datetime.now(UTC) + timedelta(hours=26))
    found = windtunnel("experiment", "status", FAMILY, "trial")
    assert "SHIP: ship 1.1.0" in found.out
    assert "hit_at_1" in found.out and "sample ratio p" in found.out
    decision = windtunnel("experiment", "status", FAMILY, "trial", "--json").json["decision"]
    assert "the same" in windtunnel("replay", decision[:12]).out
    stopped = windtunnel("experiment", "stop", FAMILY, "trial", "--reason", "enough")
    assert stopped.code == 0, stopped.err
    assert f"trigger release__{FAMILY} with model_version 1.1.0" in stopped.out
    assert windtunnel("experiment", "list", FAMILY, "--json").json == ["trial"]
    assert "experiment_stopped" in windtunnel("ledger", FAMILY).out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--mde", "0.9"),
        ("--challenger", "1.0.0"),
        ("--challenger", "9.9.9"),
        ("--challenger", "1.1.0=0"),
        ("--guardrail", "error"),
        ("--metric", "hit:sideways"),
        ("--label-delay-hours", "0"),
    ],
)
def test_what_cannot_be_is_told(windtunnel: Callable[..., Result], ready: Ledger, arguments: tuple[str, ...]) -> None:
    refused = windtunnel("experiment", "create", FAMILY, "trial", *QUESTION, *CREATE, *arguments)
    assert refused.code == 2
    assert "what to do" in refused.err or "usage" in refused.err
    route = ready.route(FAMILY)
    assert route is not None and not route.table.arms
    assert windtunnel("experiment", "status", FAMILY, "trial").code == 2
