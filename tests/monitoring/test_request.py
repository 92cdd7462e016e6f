"""The governor's decisions on record."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from include.monitoring.request import decide_retrain
from include.release.decisions import replay
from include.release.ledger import Event, Ledger
from include.settings import Settings
from include.store.database import open_database
from tests.fakes.tiny_family import tiny_spec

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def vote(rows: int = 12000, asks: bool = True) -> dict[str, Any]:
    return {"monitor": "data_volume", "asks": asks, "why": f"{rows} rows", "cause": {"new_rows": rows}}


def decided(settings: Settings, *votes: dict[str, Any], run: str = "monitor/1", hours: float = 0) -> dict[str, Any]:
    at = NOW + timedelta(hours=hours)
    return decide_retrain(settings, tiny_spec(), votes, run=run, actor="me", at=at)


def told(settings: Settings) -> list[Event]:
    return [entry.event for entry in Ledger(open_database(settings.database_url)).entries("tiny")]


def test_a_request_is_recorded_with_its_reasons(settings: Settings) -> None:
    found = decided(settings, vote())
    assert found["fire"]
    (entry,) = Ledger(open_database(settings.database_url)).entries("tiny")
    assert entry.event is Event.RETRAIN_REQUESTED
    assert entry.record == found


def test_a_run_that_is_tried_again_gets_the_same_answer(settings: Settings) -> None:
    first = decided(settings, vote())
    assert decided(settings, vote(), hours=0.1) == first
    assert told(settings) == [Event.RETRAIN_REQUESTED]


def test_the_next_run_is_declined_and_says_why(settings: Settings) -> None:
    decided(settings, vote())
    found = decided(settings, vote(12500), run="monitor/2", hours=6)
    assert not found["fire"]
    assert "cooldown" in found["why"][0]
    assert told(settings) == [Event.RETRAIN_DECLINED, Event.RETRAIN_REQUESTED]


def test_after_the_cooldown_only_a_new_cause_counts(settings: Settings) -> None:
    decided(settings, vote())
    assert not decided(settings, vote(), run="monitor/2", hours=48)["fire"]
    assert decided(settings, vote(13000), run="monitor/3", hours=48)["fire"]


def test_of_monitors_at_the_same_time_one_fires(settings: Settings) -> None:
    open_database(settings.database_url)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda number: decided(settings, vote(number), run=f"monitor/{number}"), range(6)))
    assert sum(decision["fire"] for decision in found) == 1


def test_what_if_the_cooldown_were_shorter(settings: Settings) -> None:
    decided(settings, vote())
    declined = decided(settings, vote(12500), run="monitor/2", hours=6)
    again = replay(open_database(settings.database_url), declined["decision_id"], {"cooldown_hours": 5})
    assert (again["before"]["fire"], again["after"]["fire"]) == (False, True)
