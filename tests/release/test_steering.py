"""A person at the controls: what is paused stays and stays watched, and nobody moves on over a failure."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.errors import UserError, WindtunnelError
from include.release import engine, steering
from include.release.control import Line, Said, Word, fold
from include.release.decisions import list_decisions, replay
from include.release.judging import judge_held
from include.release.ledger import Event, Ledger, StaleRoute
from include.release.state import ReleaseError, Rollout
from include.store.database import open_database
from tests.release.conftest import START, Tunnel, variant

STAGES = ("shadow", "canary", "full")
BAD = {"variants": {"champion": variant(), "challenger": variant(errors=200)}}
FEW = {"variants": {"champion": variant(requests=3), "challenger": variant(requests=3, labels=0, quality={})}}


def word(seconds: float = 0, actor: str = "ada") -> Word:
    return Word(actor=actor, reason="because", at=START + timedelta(seconds=seconds))


class TestFold:
    """Pure: what holds after all that was said."""

    def test_the_last_word_holds(self) -> None:
        said = [Line(Said.PAUSED, word(1)), Line(Said.WAVED_ON, word(2), ("canary",)), Line(Said.PAUSED, word(3))]
        assert fold(said[:1]).paused == word(1)
        assert (fold(said[:2]).paused, dict(fold(said[:2]).waved)) == (None, {"canary": word(2)})
        assert (fold(said).paused, dict(fold(said).waved)) == (word(3), {})

    def test_the_first_pause_names_who_paused(self) -> None:
        assert fold([Line(Said.PAUSED, word(1)), Line(Said.PAUSED, word(2, "eve"))]).paused == word(1)

    def test_stages_begin_for_good(self) -> None:
        said = [Line(Said.BEGUN, word(), ("shadow",)), Line(Said.PAUSED, word()), Line(Said.RESUMED, word())]
        assert fold(said).begun == {"shadow"}

    @given(st.lists(st.sampled_from([Said.PAUSED, Said.RESUMED, Said.WAVED_ON]), max_size=12), st.integers(0, 15))
    def test_a_second_is_paused_or_it_runs(self, said: list[Said], since: int) -> None:
        lines = [Line(kind, word(second)) for second, kind in enumerate(said)]
        paused = sum(fold(lines[: second + 1]).paused is not None for second in range(since, 15))
        found = fold(lines).paused_seconds(START + timedelta(seconds=since), START + timedelta(seconds=15))
        assert found == paused


@pytest.fixture
def rollout(tunnel: Tunnel) -> str:
    """In its canary."""
    found: str = tunnel.begin(tunnel.register()["model_version"])["rollout"]
    tunnel.pass_stage(found, "shadow")
    tunnel.enter(found, "canary")
    return found


def say(tunnel: Tunnel, what: str, **named: Any) -> dict[str, Any]:
    done: dict[str, Any] = getattr(steering, what)(
        tunnel.settings, "tiny", reason=f"{what} because", actor="ada", at=tunnel.now, **named
    )
    return done


def watch_held(tunnel: Tunnel, rollout: str, stage: str) -> dict[str, Any]:
    return judge_held(tunnel.settings, tunnel.spec, rollout, stage, at=tunnel.now)


class TestPause:
    def test_a_paused_stage_neither_passes_nor_times_out(self, tunnel: Tunnel, rollout: str) -> None:
        before = tunnel.ledger.route("tiny")
        assert say(tunnel, "pause")["stage"] == "canary"
        tunnel.later(24 * 3600)
        found = tunnel.judge(rollout, "canary")
        assert found["wait"]
        assert found["why"][0] == "paused by ada: pause because"
        assert tunnel.ledger.route("tiny") == before

    def test_nor_does_it_pass_when_the_evidence_was_there_before(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.later(5)
        say(tunnel, "pause")
        assert tunnel.judge(rollout, "canary")["wait"]
        say(tunnel, "resume")
        assert tunnel.judge(rollout, "canary")["verdict"] == "PASS"

    def test_its_time_goes_on_where_it_stood(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.gateway.shown = FEW
        tunnel.later(30)
        say(tunnel, "pause")
        tunnel.later(24 * 3600)
        say(tunnel, "resume")
        tunnel.later(29)
        assert tunnel.judge(rollout, "canary")["wait"]
        tunnel.later(2)
        assert tunnel.judge(rollout, "canary")["verdict"] == "INCONCLUSIVE"
        assert not tunnel.judge(rollout, "canary")["wait"]

    def test_a_bad_candidate_still_comes_down(self, tunnel: Tunnel, rollout: str) -> None:
        say(tunnel, "pause")
        tunnel.gateway.shown = BAD
        found = tunnel.judge(rollout, "canary")
        assert (found["verdict"], found["wait"]) == ("FAIL", False)
        assert tunnel.roll_back(rollout)["to"] == "0.1.0"

    def test_it_also_holds_between_two_stages(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.later(5)
        assert tunnel.judge(rollout, "canary")["verdict"] == "PASS"
        say(tunnel, "pause")
        before = tunnel.ledger.route("tiny")
        assert tunnel.enter(rollout, "full") == {"held": "paused by ada: pause because"}
        assert watch_held(tunnel, rollout, "full")["wait"]
        assert tunnel.ledger.route("tiny") == before
        say(tunnel, "resume")
        assert watch_held(tunnel, rollout, "full")["again"]
        assert tunnel.enter(rollout, "full")["generation"] == 4

    def test_and_there_too_a_bad_candidate_comes_down(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.later(5)
        tunnel.judge(rollout, "canary")
        say(tunnel, "pause")
        tunnel.enter(rollout, "full")
        tunnel.gateway.shown = BAD
        found = watch_held(tunnel, rollout, "full")
        assert (found["verdict"], found["wait"]) == ("FAIL", False)
        with suppress(ReleaseError):
            say(tunnel, "resume")  # too late: the worker that died over the verdict must not fly it
        assert "held" in tunnel.enter(rollout, "full")
        assert tunnel.ledger.route("tiny").table.stage == "canary"  # type: ignore[union-attr]
        assert tunnel.roll_back(rollout)["changed"]

    def test_twice_is_said_once(self, tunnel: Tunnel, rollout: str) -> None:
        assert [say(tunnel, "pause")["changed"] for _ in range(2)] == [True, False]
        assert [say(tunnel, "resume")["changed"] for _ in range(2)] == [True, False]
        entries = tunnel.ledger.entries("tiny", frozenset({Event.PAUSED, Event.RESUMED}))
        assert [(entry.event, entry.actor, entry.record["reason"]) for entry in entries] == [
            (Event.RESUMED, "ada", "resume because"),
            (Event.PAUSED, "ada", "pause because"),
        ]

    def test_what_was_decided_can_be_decided_again(self, tunnel: Tunnel, rollout: str) -> None:
        say(tunnel, "pause")
        tunnel.gateway.shown = BAD
        tunnel.judge(rollout, "canary")
        engine = open_database(tunnel.settings.database_url)
        decision = next(found for found in list_decisions(engine, "tiny", "stage") if found.output["verdict"] == "FAIL")
        assert decision.input["paused"]["actor"] == "ada"
        assert replay(engine, decision.id)["same"]

    @pytest.mark.parametrize("what", ["pause", "resume", "abort", "promote"])
    def test_without_a_rollout_there_is_nothing_to_steer(self, tunnel: Tunnel, what: str) -> None:
        named = {"full": False} if what == "promote" else {}
        with pytest.raises(UserError, match="under way"):
            say(tunnel, what, **named)
        tunnel.fly()
        with pytest.raises(UserError, match="under way"):
            say(tunnel, what, **named)

    def test_a_candidate_that_is_coming_down_or_arriving_is_not_paused(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.pass_stage(rollout, "canary")
        tunnel.pass_stage(rollout, "full")
        with pytest.raises(ReleaseError, match="being promoted"):
            say(tunnel, "pause")
        assert tunnel.promote(rollout)["champion"] == "1.0.0"


class TestPromote:
    def test_it_ends_the_wait_and_names_the_person(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.gateway.shown = FEW
        assert tunnel.judge(rollout, "canary")["wait"]
        assert say(tunnel, "promote", full=False)["waved_on"] == ["canary"]
        found = tunnel.judge(rollout, "canary")
        assert found["verdict"] == "PASS"
        assert found["why"][0] == "moved on by ada: promote because"
        record = tunnel.ledger.entries("tiny", frozenset({Event.STAGE_JUDGED}))[0].record
        assert record["by"]["actor"] == "ada"
        tunnel.enter(rollout, "full")
        assert tunnel.judge(rollout, "full")["wait"], "the next stage needs evidence of its own"

    def test_up_to_full_traffic(self, tunnel: Tunnel) -> None:
        rollout = tunnel.begin(tunnel.register()["model_version"])["rollout"]
        tunnel.enter(rollout, "shadow")
        tunnel.gateway.shown = FEW
        assert say(tunnel, "promote", full=True)["waved_on"] == ["shadow", "canary"]
        for stage in ("shadow", "canary"):
            tunnel.enter(rollout, stage)
            assert tunnel.judge(rollout, stage)["verdict"] == "PASS"
        tunnel.enter(rollout, "full")
        assert tunnel.judge(rollout, "full")["wait"]

    def test_not_over_a_failure(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.gateway.shown = BAD
        with pytest.raises(ReleaseError, match="errors: 200 of 400"):
            say(tunnel, "promote", full=False)
        assert not tunnel.ledger.entries("tiny", frozenset({Event.WAVED_ON}))

    def test_not_blindly(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.gateway.away = "connection refused"
        with pytest.raises(ReleaseError, match="connection refused"):
            say(tunnel, "promote", full=False)

    def test_a_failure_that_shows_after_the_word_still_counts(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.gateway.shown = FEW
        say(tunnel, "promote", full=False)
        tunnel.gateway.shown = BAD
        assert tunnel.judge(rollout, "canary")["verdict"] == "FAIL"

    def test_nor_does_it_pass_while_nobody_can_see(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.gateway.shown = FEW
        say(tunnel, "promote", full=False)
        tunnel.gateway.away = "connection refused"
        assert tunnel.judge(rollout, "canary")["wait"]

    def test_it_ends_a_pause_and_a_pause_takes_it_back(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.gateway.shown = FEW
        say(tunnel, "pause")
        say(tunnel, "promote", full=False)
        say(tunnel, "pause")
        assert tunnel.judge(rollout, "canary")["wait"]
        say(tunnel, "promote", full=False)
        assert tunnel.judge(rollout, "canary")["verdict"] == "PASS"


class TestAbort:
    def test_it_takes_traffic_back_at_once(self, tunnel: Tunnel, rollout: str) -> None:
        say(tunnel, "pause")
        done = say(tunnel, "abort")
        assert (done["changed"], done["to"], done["version"]) == (True, "0.1.0", "1.0.0")
        entry = tunnel.ledger.entries("tiny", frozenset({Event.ROLLED_BACK}))[0]
        assert (entry.actor, entry.record["reason"]) == ("ada", "aborted: abort because")
        found = tunnel.judge(rollout, "canary")
        assert (found["wait"], found["verdict"]) == (False, "INCONCLUSIVE")
        assert "aborted: abort because" in found["why"][0]
        with pytest.raises(ReleaseError, match="has ended"):
            tunnel.enter(rollout, "canary")

    def test_before_the_first_stage(self, tunnel: Tunnel) -> None:
        rollout = tunnel.begin(tunnel.register()["model_version"])["rollout"]
        assert not say(tunnel, "abort")["changed"]
        with pytest.raises(ReleaseError, match="has ended"):
            tunnel.enter(rollout, "shadow")

    @pytest.mark.parametrize("moment", ["before the swap", "after the swap"])
    def test_a_stage_that_is_entered_at_that_moment_does_not_stay(
        self, tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch, moment: str
    ) -> None:
        rollout = tunnel.begin(tunnel.register()["model_version"])["rollout"]
        swap = Ledger.swap_route

        def race(self: Ledger, *arguments: Any, **named: Any) -> int:
            monkeypatch.setattr(Ledger, "swap_route", swap)
            if moment == "before the swap":
                say(tunnel, "abort")
                return swap(self, *arguments, **named)
            generation = swap(self, *arguments, **named)
            say(tunnel, "abort")
            return generation

        monkeypatch.setattr(Ledger, "swap_route", race)
        with pytest.raises(WindtunnelError):
            tunnel.enter(rollout, "shadow")
        route = tunnel.ledger.route("tiny")
        assert route is not None
        assert (route.table.champion.version, route.table.challenger) == ("0.1.0", None)

    def test_what_an_abort_took_back_a_stage_does_not_take_again(
        self, tunnel: Tunnel, rollout: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tunnel.later(5)
        tunnel.judge(rollout, "canary")
        monkeypatch.setattr(engine, "_begin_stage", lambda *_: say(tunnel, "abort") and None)
        with pytest.raises(StaleRoute):
            tunnel.enter(rollout, "full")
        stages = [route.table.stage for route in tunnel.ledger.routes_before("tiny", 99)]
        assert stages[:2] == ["", "canary"], "not for a moment"

    def test_an_abort_whose_entry_comes_after_the_stage_looks_again(
        self, tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rollout = tunnel.begin(tunnel.register()["model_version"])["rollout"]
        append = Rollout.append

        def race(self: Rollout, event: Event, *arguments: Any) -> None:
            if event is Event.ROLLED_BACK:
                monkeypatch.setattr(Rollout, "append", append)
                tunnel.enter(rollout, "shadow")
            append(self, event, *arguments)

        monkeypatch.setattr(Rollout, "append", race)
        assert say(tunnel, "abort")["changed"]
        assert tunnel.ledger.route("tiny").table.challenger is None  # type: ignore[union-attr]


class TestStanding:
    def test_it_tells_stage_pause_and_budget(self, tunnel: Tunnel, rollout: str) -> None:
        say(tunnel, "pause")
        found = steering.standing(tunnel.settings, "tiny")
        assert found is not None
        assert (found["version"], found["stage"], found["paused"]["actor"]) == ("1.0.0", "canary", "ada")
        say(tunnel, "abort")
        assert steering.standing(tunnel.settings, "tiny") is None


@pytest.mark.every_database
class TestAtOnce:
    def test_of_many_words_at_once_each_has_a_number(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.gateway.shown = FEW

        def speak(number: int) -> None:
            for what in ("pause", "resume", "promote")[number % 3 :]:
                with suppress(ReleaseError):
                    say(tunnel, what, **({"full": False} if what == "promote" else {}))

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(speak, range(6)))
        state = Rollout.read(tunnel.ledger, "tiny", rollout)
        said = tunnel.ledger.series("tiny", f"control:{rollout}:")
        assert state.control().number == len(said) >= 3
        words = [entry.event for entry in said if entry.event is not Event.STAGE_BEGUN]
        assert all(first is not Event.RESUMED for first in words[:1])
        assert all(
            (before, after) not in {(Event.PAUSED, Event.PAUSED), (Event.RESUMED, Event.RESUMED)}
            for before, after in itertools.pairwise(words)
        ), "who says what holds already says nothing"

    def test_a_pause_and_the_next_stage_agree_on_who_was_first(
        self, tunnel: Tunnel, fresh: Callable[[], Tunnel]
    ) -> None:
        held = 0
        for _ in range(6):
            here = fresh()
            rollout = here.begin(here.register()["model_version"])["rollout"]
            here.pass_stage(rollout, "shadow")
            with ThreadPoolExecutor(2) as pool:
                entered = pool.submit(here.enter, rollout, "canary")
                pool.submit(say, here, "pause").result()
            begun = Rollout.read(here.ledger, "tiny", rollout).control()
            moved = here.ledger.route("tiny").table.stage == "canary"  # type: ignore[union-attr]
            assert moved == ("canary" in begun.begun) == ("held" not in entered.result())
            held += not moved
        assert 0 <= held <= 6
