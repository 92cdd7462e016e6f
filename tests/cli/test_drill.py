"""`windtunnel drill`, and what `status` says of the last one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.release.drill import record
from include.release.ledger import Event, Ledger
from include.settings import Settings
from tests.cli.conftest import FAMILY
from tests.release.test_drill import HELD

Windtunnel = Callable[..., Any]


@pytest.mark.parametrize(("outcome", "code"), [("stopped", 0), ("missed", 1)])
def test_a_drill_is_recorded_and_a_missed_one_is_a_failure(
    windtunnel: Windtunnel, story: Ledger, monkeypatch: pytest.MonkeyPatch, outcome: str, code: int
) -> None:
    asked = []

    def held(settings: Settings, spec: Any, **named: Any) -> dict[str, Any]:
        asked.append(named)
        return {**HELD, "drill": named["name"], "outcome": outcome}

    monkeypatch.setattr(record, "drill", held)
    result = windtunnel("drill", FAMILY, "--fault", "slow", "--live")
    assert result.code == code, result.err
    assert (asked[0]["fault"], asked[0]["live"]) == ("slow", True)
    assert story.entries(FAMILY, frozenset({Event.DRILLED}))[0].record["outcome"] == outcome
    assert "slow model stopped at canary" in result.out if outcome == "stopped" else "slow model MISSED" in result.out


def test_status_tells_how_old_the_last_drill_is(windtunnel: Windtunnel, story: Ledger, settings: Settings) -> None:
    assert "drill: never held" in windtunnel("status").out
    then = datetime.now(UTC) - timedelta(days=40, hours=1)
    record.keep(settings, FAMILY, HELD, actor="me", at=then)
    assert "drill 40 days ago: slow model stopped at canary, found after 2.5 s" in windtunnel("status").out
    shown = windtunnel("status", "--json").json["families"][FAMILY]["drill"]
    assert (shown["outcome"], shown["detect_seconds"]) == ("stopped", 2.5)


def test_without_a_champion_it_says_so(windtunnel: Windtunnel) -> None:
    result = windtunnel("drill", FAMILY)
    assert result.code == 2
    assert "nothing serves" in result.err
