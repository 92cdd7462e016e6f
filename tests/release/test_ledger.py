"""The ledger: told once, never changed, and one winner per generation."""

from __future__ import annotations

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from include.release.ledger import Event, Ledger, StaleRoute
from include.release.routing import Role, RoutingTable, Variant
from include.settings import PROJECT_ROOT, Settings

pytestmark = pytest.mark.every_database

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
FAMILIES = itertools.count()


def table(version: str = "1.0.0") -> RoutingTable:
    return RoutingTable(champion=Variant(role=Role.CHAMPION, version=version, digest="a" * 64))


def swap(ledger: Ledger, expected: int, version: str = "1.0.0", at: datetime = NOW) -> int:
    return ledger.swap_route("f", expected, table(version), reason="test", actor="me", at=at)


class TestEvents:
    def test_a_repeated_event_is_told_once_and_the_first_telling_stays(self, ledger: Ledger) -> None:
        first = ledger.append("f", Event.ARCHIVED, key="k", actor="me", at=NOW, record={"try": 1})
        again = ledger.append("f", Event.ARCHIVED, key="k", actor="me", at=NOW, record={"try": 2})
        assert (first, again) == (True, False)
        assert [entry.record for entry in ledger.entries("f")] == [{"try": 1}]
        found = ledger.entry("f", "k")
        assert found is not None
        assert found.record == {"try": 1}

    def test_families_do_not_meet(self, ledger: Ledger) -> None:
        assert ledger.append("f", Event.ARCHIVED, key="k", actor="me", at=NOW)
        assert ledger.append("g", Event.ARCHIVED, key="k", actor="me", at=NOW)
        assert len(ledger.entries("f")) == 1
        assert ledger.entry("h", "k") is None

    def test_the_newest_come_first_and_can_be_chosen(self, ledger: Ledger) -> None:
        for number, event in enumerate([Event.REGISTERED, Event.PROMOTED, Event.REGISTERED]):
            ledger.append("f", event, key=str(number), actor="me", at=NOW, model_version=f"1.{number}.0")
        assert [entry.model_version for entry in ledger.entries("f")] == ["1.2.0", "1.1.0", "1.0.0"]
        assert [entry.model_version for entry in ledger.entries("f", frozenset({Event.PROMOTED}))] == ["1.1.0"]
        assert len(ledger.entries("f", limit=2)) == 2

    def test_an_incomplete_entry_is_an_error_not_a_repetition(self, ledger: Ledger) -> None:
        with pytest.raises(IntegrityError):
            ledger.append("f", Event.ARCHIVED, key=None, actor="me", at=NOW)  # type: ignore[arg-type]

    def test_a_moment_without_a_zone_is_refused(self, ledger: Ledger) -> None:
        with pytest.raises(Exception, match="time zone"):
            ledger.append("f", Event.ARCHIVED, key="k", actor="me", at=datetime(2026, 11, 2))

    def test_a_long_actor_and_reason_are_cut_not_refused(self, ledger: Ledger) -> None:
        ledger.append("f", Event.ARCHIVED, key="k", actor="x" * 1000, at=NOW)
        ledger.swap_route("f", 0, table(), reason="y" * 1000, actor="x" * 1000, at=NOW)
        route = ledger.route("f")
        assert route is not None
        assert max(len(route.reason), len(route.actor), len(ledger.entries("f")[0].actor)) <= 256


class TestSwap:
    def test_generations_count_up(self, ledger: Ledger) -> None:
        assert ledger.route("f") is None
        assert [swap(ledger, expected) for expected in range(3)] == [1, 2, 3]
        assert ledger.route("f").generation == 3  # type: ignore[union-attr]
        assert [route.generation for route in ledger.routes_before("f", 3)] == [2, 1]

    @pytest.mark.parametrize("expected", [0, 1, 3, 7, -1])
    def test_only_who_knows_the_newest_generation_may_change_it(self, ledger: Ledger, expected: int) -> None:
        swap(ledger, 0)
        swap(ledger, 1)
        with pytest.raises(StaleRoute) as caught:
            swap(ledger, expected, "9.9.9")
        assert caught.value.fields == {"expected": expected, "newest": 2}
        assert ledger.route("f").table.champion.version == "1.0.0"  # type: ignore[union-attr]

    def test_of_many_threads_one_wins_each_generation(self, ledger: Ledger) -> None:
        def climb(name: int) -> list[int]:
            won = []
            for _ in range(6):
                route = ledger.route("f")
                with suppress(StaleRoute):
                    won.append(swap(ledger, route.generation if route else 0, f"{name}.0.0"))
            return won

        with ThreadPoolExecutor(6) as pool:
            won = [generation for wins in pool.map(climb, range(6)) for generation in wins]
        assert sorted(won) == list(range(1, len(won) + 1))
        assert ledger.route("f").generation == len(won)  # type: ignore[union-attr]

    @pytest.mark.slow
    def test_of_many_processes_one_wins_each_generation(self, ledger: Ledger, settings: Settings) -> None:
        code = """
import sys
from datetime import UTC, datetime
from include.release.ledger import Ledger, StaleRoute
from include.release.routing import Role, RoutingTable, Variant
from include.store.database import open_database
ledger = Ledger(open_database(sys.argv[1]))
table = RoutingTable(champion=Variant(role=Role.CHAMPION, version=sys.argv[2], digest="a" * 64))
for _ in range(15):
    route = ledger.route("f")
    try:
        print(ledger.swap_route("f", route.generation if route else 0, table, reason="r", actor="a",
        at=datetime.now(UTC)))
    except StaleRoute:
        pass
"""
        command = [sys.executable, "-c", code, settings.database_url]
        started = [
            subprocess.Popen([*command, f"{name}.0.0"], stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT)
            for name in range(4)
        ]
        outputs = [process.communicate()[0] for process in started]
        assert [process.returncode for process in started] == [0] * 4
        won = sorted(int(line) for output in outputs for line in output.split())
        assert won == list(range(1, len(won) + 1))
        assert len(won) >= 15


class TestTime:
    def test_what_served_at_any_time(self, ledger: Ledger) -> None:
        for hour in range(3):
            swap(ledger, hour, f"{hour}.0.0", NOW + timedelta(hours=hour))
        assert ledger.served_at("f", NOW - timedelta(seconds=1)) is None
        served = [ledger.served_at("f", NOW + timedelta(minutes=minutes)) for minutes in (0, 59, 60, 600)]
        assert [route.table.champion.version for route in served if route] == ["0.0.0", "0.0.0", "1.0.0", "2.0.0"]

    def test_a_moment_is_the_same_in_every_zone(self, ledger: Ledger) -> None:
        tokyo = timezone(timedelta(hours=9))
        swap(ledger, 0, at=NOW.astimezone(tokyo))
        assert ledger.route("f").at == NOW  # type: ignore[union-attr]
        assert ledger.served_at("f", NOW - timedelta(minutes=1)) is None
        assert ledger.served_at("f", (NOW + timedelta(minutes=1)).astimezone(tokyo)) is not None


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.integers(-10, 5000))
def test_history_never_forgets(ledger: Ledger, gaps: list[int], probe: int) -> None:
    name, at, expected = f"family-{next(FAMILIES)}", NOW, None
    for generation, gap in enumerate(gaps):
        at += timedelta(seconds=gap)
        ledger.swap_route(name, generation, table(f"{generation}.0.0"), reason="r", actor="a", at=at)
        if at <= NOW + timedelta(seconds=probe):
            expected = generation + 1
    found = ledger.served_at(name, NOW + timedelta(seconds=probe))
    assert (found.generation if found else None) == expected
