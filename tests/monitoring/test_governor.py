"""The governor: any vote fires, unless it was just asked for, or asked for the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.monitoring.governor import decide

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
VOLUME = {"monitor": "data_volume", "asks": True, "why": "12000 new rows", "cause": {"new_rows": 12000}}
DRIFT = {"monitor": "drift", "asks": True, "why": "3 of 4 columns drifted", "cause": {"columns": ["score"]}}


def decided(*votes: dict[str, Any], requests: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    given = {
        "family": "tiny",
        "champion": "1.0.0",
        "votes": list(votes),
        "requests": requests or [],
        "cooldown_hours": 24,
        "now": NOW.isoformat(),
    }
    return decide({**given, **changes})


def asked(hours: float, cause: str = "other") -> dict[str, Any]:
    return {"at": (NOW - timedelta(hours=hours)).isoformat(), "fingerprint": cause}


@pytest.mark.parametrize("votes", [[VOLUME], [DRIFT], [VOLUME, DRIFT], [VOLUME, {**DRIFT, "asks": False}]])
def test_any_vote_is_enough(votes: list[dict[str, Any]]) -> None:
    found = decided(*votes)
    assert found["fire"]
    assert found["monitors"] == [vote["monitor"] for vote in votes if vote["asks"]]
    assert all(any(vote["why"] in why for why in found["why"]) for vote in votes)


@pytest.mark.parametrize("votes", [[], [{**VOLUME, "asks": False}]])
def test_nobody_asks(votes: list[dict[str, Any]]) -> None:
    found = decided(*votes)
    assert not found["fire"]
    assert found["why"][0] == "no monitor asks for a retrain"


def test_no_second_request_within_the_cooldown() -> None:
    found = decided(VOLUME, requests=[asked(23.9)])
    assert not found["fire"]
    assert "cooldown lasts until 2026-11-02 09:06:00 UTC" in found["why"][0]
    assert decided(VOLUME, requests=[asked(24)])["fire"]
    assert decided(VOLUME, requests=[asked(0.1)], cooldown_hours=0)["fire"]


def test_no_second_request_for_the_same_cause_however_late() -> None:
    cause = decided(VOLUME)["fingerprint"]
    found = decided(VOLUME, requests=[asked(1000, cause)])
    assert not found["fire"]
    assert "this very cause" in found["why"][0]


@pytest.mark.parametrize(
    "changed",
    [
        {"votes": [{**VOLUME, "cause": {"new_rows": 12001}}]},
        {"votes": [VOLUME, DRIFT]},
        {"champion": "1.1.0"},
        {"family": "other"},
    ],
)
def test_another_cause_is_another_request(changed: dict[str, Any]) -> None:
    cause = decided(VOLUME)["fingerprint"]
    assert decided(VOLUME, **changed)["fingerprint"] != cause
    assert decided(VOLUME, requests=[asked(1000, cause)], **changed)["fire"]


def test_a_monitor_that_does_not_ask_is_no_part_of_the_cause() -> None:
    silent = [{**DRIFT, "asks": False, "cause": {"columns": [name]}} for name in ("a", "b")]
    assert decided(VOLUME, silent[0])["fingerprint"] == decided(VOLUME, silent[1])["fingerprint"]


def test_the_order_of_votes_does_not_matter() -> None:
    assert decided(VOLUME, DRIFT)["fingerprint"] == decided(DRIFT, VOLUME)["fingerprint"]


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError):
        decided(VOLUME, now="2026-11-02T09:00:00")


@given(st.lists(st.floats(0, 500), max_size=5), st.booleans(), st.floats(0, 200))
def test_it_never_fires_within_the_cooldown_or_unasked(hours: list[float], asks: bool, cooldown: float) -> None:
    found = decided({**VOLUME, "asks": asks}, requests=[asked(hour) for hour in hours], cooldown_hours=cooldown)
    if found["fire"]:
        assert asks
        assert all(hour >= cooldown - 1e-6 for hour in hours)
    assert found["why"]
