"""Rollouts: forward on evidence, back on anything else, and never twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from include.release.gateway import GatewayError
from include.release.ledger import Event, Ledger, Route, StaleRoute
from include.release.rollback import all_to, revert, served_fully
from include.release.routing import Role, RoutingTable, Variant
from include.release.state import ReleaseError
from include.serving.package import PackageError
from tests.fakes.tiny_family import tiny_spec
from tests.release.conftest import START, Tunnel, variant

STAGES = ("shadow", "canary", "full")


def bad(**changes: Any) -> dict[str, Any]:
    """Stats in which the challenger does badly."""
    challenger = variant(quality={"hit_at_10": {"mean": 0.3, "n": 200, "sd": 0.4}}, **changes)
    return {"variants": {"champion": variant(), "challenger": challenger}}


def interfere(tunnel: Tunnel, version: str = "6.6.6") -> int:
    """Somebody else moves the traffic."""
    route = tunnel.ledger.route("tiny")
    table = all_to(Variant(role=Role.CHAMPION, version=version, digest="e" * 64))
    expected = route.generation if route else 0
    return tunnel.ledger.swap_route("tiny", expected, table, reason="by hand", actor="you", at=tunnel.now)


@pytest.fixture
def rollout(tunnel: Tunnel) -> str:
    """A rollout that has begun, on the bootstrap baseline."""
    found: str = tunnel.begin(tunnel.register()["model_version"])["rollout"]
    return found


class TestFlight:
    def test_from_shadow_to_champion(self, tunnel: Tunnel, rollout: str) -> None:
        tables = []
        for stage in STAGES:
            tunnel.pass_stage(rollout, stage)
            tables.append(tunnel.ledger.route("tiny").table)  # type: ignore[union-attr]
        assert [(table.shadow, table.challenger_share) for table in tables] == [
            (True, 0.0),
            (False, 0.05),
            (False, 1.0),
        ]
        assert {table.champion.version for table in tables} == {"0.1.0"}
        assert {table.challenger.version for table in tables if table.challenger} == {"1.0.0"}
        assert {table.rollout for table in tables} == {rollout}

        found = tunnel.promote(rollout)
        assert (found["champion"], found["previous"], found["registry"]) == ("1.0.0", "0.1.0", "")
        table = tunnel.ledger.route("tiny").table  # type: ignore[union-attr]
        assert (table.champion.version, table.challenger, table.stage) == ("1.0.0", None, "")
        assert tunnel.mlflow.aliases == {"champion": "1"}
        assert tunnel.gateway.waited == [1, 2, 3, 4, 5]

        events = [entry.event for entry in reversed(tunnel.ledger.entries("tiny"))]
        stages = [Event.STAGE_BEGUN, Event.STAGE_ENTERED, Event.STAGE_JUDGED] * 3
        told = [Event.ROLLOUT_BEGUN, *stages[:-1], Event.STAGE_BEGUN, Event.STAGE_JUDGED, Event.PROMOTED]
        assert events[-len(told) :] == told

    def test_the_record_of_a_stage_tells_what_it_was_judged_on(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.pass_stage(rollout, "shadow")
        record = tunnel.ledger.entries("tiny", frozenset({Event.STAGE_JUDGED}))[0].record
        assert (record["stage"], record["traffic"], record["verdict"], record["seconds"]) == (
            "shadow",
            0.0,
            "PASS",
            5.0,
        )
        assert (record["requests"], record["errors"], record["labels"]) == (400, 0, 200)
        assert record["champion"]["requests"] == 400
        assert record["why"]

    def test_the_next_candidate_meets_the_last_champion(self, tunnel: Tunnel) -> None:
        assert [tunnel.fly("a"), tunnel.fly("b")] == ["1.0.0", "1.1.0"]
        assert tunnel.champion() == "1.1.0"
        served = tunnel.ledger.served_at("tiny", tunnel.now)
        assert served is not None
        assert served.table.champion.version == "1.1.0"

    def test_at_full_traffic_it_is_held_against_the_champion_of_the_stages_before(
        self, tunnel: Tunnel, rollout: str
    ) -> None:
        tunnel.pass_stage(rollout, "shadow")
        tunnel.pass_stage(rollout, "canary")
        tunnel.enter(rollout, "full")
        tunnel.later(5)
        nobody = {"requests": 0, "errors": 0, "labels": 0, "quality": {}}
        worse = variant(quality={"hit_at_10": {"mean": 0.5, "n": 200, "sd": 0.5}})
        tunnel.gateway.shown = {"variants": {"champion": nobody, "challenger": worse}}
        found = tunnel.judge(rollout, "full")
        assert found["verdict"] == "FAIL"
        assert found["observed"]["champion"]["labels"] == 400


class TestBegin:
    def test_the_first_candidate_meets_the_bootstrap_baseline(self, tunnel: Tunnel) -> None:
        begun = tunnel.begin(tunnel.register()["model_version"])
        assert begun["champion"]["version"] == "0.1.0"
        assert tunnel.champion() == "0.1.0"
        baseline = next(row for row in tunnel.versions() if row.is_baseline)
        assert (baseline.verdict, baseline.releasable) == ("BASELINE", False)
        assert [entry.event for entry in tunnel.ledger.entries("tiny")].count(Event.BOOTSTRAPPED) == 1

    def test_without_a_bootstrap_the_candidate_takes_everything(self, tunnel: Tunnel) -> None:
        release = tiny_spec().release.model_dump()
        tunnel.spec = tiny_spec(release={**release, "bootstrap": None})
        begun = tunnel.begin(tunnel.register()["model_version"])
        assert begun["champion"] is None
        tunnel.gateway.shown = {"variants": {"champion": variant()}}
        for stage in STAGES:
            tunnel.pass_stage(begun["rollout"], stage)
            assert tunnel.champion() == "1.0.0"
        assert tunnel.promote(begun["rollout"])["previous"] is None

    def test_again_is_the_same_rollout(self, tunnel: Tunnel) -> None:
        version = tunnel.register()["model_version"]
        assert tunnel.begin(version) == tunnel.begin(version)
        assert len(tunnel.ledger.entries("tiny", frozenset({Event.ROLLOUT_BEGUN}))) == 1

    def test_a_backfill_is_not_released(self, tunnel: Tunnel) -> None:
        version = tunnel.register(backfill=True)["model_version"]
        assert "backfill" in tunnel.begin(version)["skip"]
        assert tunnel.champion() is None

    def test_a_baseline_is_not_released(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.roll_back(rollout)
        assert "did not pass its gates" in tunnel.begin("0.1.0", run="release/2")["skip"]

    def test_the_champion_is_not_released_again(self, tunnel: Tunnel) -> None:
        assert "champion already" in tunnel.begin(tunnel.fly(), run="release/2")["skip"]

    def test_a_rollout_that_ended_is_not_begun_again(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.roll_back(rollout, "too slow")
        assert "too slow" in tunnel.begin("1.0.0")["skip"]
        assert tunnel.begin("1.0.0", run="release/2")["skip"] is None

    def test_one_rollout_at_a_time(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.enter(rollout, "shadow")
        second = tunnel.register()["model_version"]
        with pytest.raises(ReleaseError, match="under way"):
            tunnel.begin(second, run="release/2")
        tunnel.roll_back(rollout)
        assert tunnel.begin(second, run="release/2")["skip"] is None

    def test_an_altered_package_does_not_fly(self, tunnel: Tunnel) -> None:
        found = tunnel.register()
        tunnel.store.put(f"models/tiny/{found['digest']}/model.json", b'{"skill": 1.0}')
        with pytest.raises(PackageError, match="altered"):
            tunnel.begin(found["model_version"])
        assert tunnel.champion() is None

    def test_a_baseline_that_was_not_evaluated_does_not_serve(self, tunnel: Tunnel) -> None:
        version = tunnel.register(baselines={})["model_version"]
        with pytest.raises(Exception, match="was not evaluated"):
            tunnel.begin(version)
        assert tunnel.champion() is None


class TestOrder:
    def test_no_stage_is_skipped(self, tunnel: Tunnel, rollout: str) -> None:
        with pytest.raises(ReleaseError, match="stage shadow of rollout"):
            tunnel.enter(rollout, "canary")
        with pytest.raises(ReleaseError, match="was not passed"):
            tunnel.promote(rollout)
        assert tunnel.champion() == "0.1.0"

    def test_a_failed_stage_is_the_end(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.pass_stage(rollout, "shadow")
        tunnel.enter(rollout, "canary")
        tunnel.gateway.shown = bad()
        assert tunnel.judge(rollout, "canary")["verdict"] == "FAIL"
        tunnel.gateway.shown = {}
        assert tunnel.judge(rollout, "canary")["verdict"] == "FAIL"  # a final verdict stays
        with pytest.raises(ReleaseError, match="FAIL"):
            tunnel.enter(rollout, "full")

    def test_a_stage_must_be_entered_before_it_is_judged(self, tunnel: Tunnel, rollout: str) -> None:
        with pytest.raises(ReleaseError, match="not entered"):
            tunnel.judge(rollout, "shadow")

    def test_entering_again_changes_nothing(self, tunnel: Tunnel, rollout: str) -> None:
        first = tunnel.enter(rollout, "shadow")
        tunnel.later(100)
        assert tunnel.enter(rollout, "shadow") == first

    def test_entering_an_old_stage_again_does_not_take_traffic_back(self, tunnel: Tunnel, rollout: str) -> None:
        for stage in STAGES:
            tunnel.pass_stage(rollout, stage)
        before = tunnel.ledger.route("tiny")
        tunnel.enter(rollout, "canary")
        assert tunnel.ledger.route("tiny") == before

    def test_after_the_end_nothing_is_entered(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.enter(rollout, "shadow")
        tunnel.roll_back(rollout)
        with pytest.raises(ReleaseError, match="has ended"):
            tunnel.enter(rollout, "shadow")
        with pytest.raises(ReleaseError, match="rolled back"):
            tunnel.promote(rollout)

    def test_unknown_names_are_told(self, tunnel: Tunnel, rollout: str) -> None:
        with pytest.raises(Exception, match="no stage 'half'"):
            tunnel.enter(rollout, "half")
        with pytest.raises(ReleaseError, match="no rollout"):
            tunnel.enter("nobody", "shadow")


class TestWaiting:
    def test_it_waits_without_recording(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.enter(rollout, "shadow")
        found = tunnel.judge(rollout, "shadow")  # no second has passed
        assert (found["wait"], found["verdict"]) == (True, "INCONCLUSIVE")
        assert not tunnel.ledger.entries("tiny", frozenset({Event.STAGE_JUDGED}))

    def test_too_little_traffic_in_time_is_inconclusive_and_does_not_go_on(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.enter(rollout, "shadow")
        few = variant(requests=3)
        tunnel.gateway.shown = {"variants": {"champion": few, "challenger": few}}
        tunnel.later(61)
        assert tunnel.judge(rollout, "shadow")["verdict"] == "INCONCLUSIVE"
        with pytest.raises(ReleaseError):
            tunnel.enter(rollout, "canary")

    def test_a_gateway_that_stays_away_ends_the_stage(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.enter(rollout, "shadow")
        tunnel.gateway.away = "connection refused"
        tunnel.later(30)
        assert tunnel.judge(rollout, "shadow")["wait"]
        tunnel.later(31)
        found = tunnel.judge(rollout, "shadow")
        assert (found["wait"], found["verdict"]) == (False, "INCONCLUSIVE")

    def test_a_gateway_that_serves_the_champion_alone_is_no_evidence(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.pass_stage(rollout, "shadow")
        tunnel.enter(rollout, "canary")
        tunnel.gateway.shown = {"variants": {"champion": variant()}}
        tunnel.later(61)
        assert tunnel.judge(rollout, "canary")["verdict"] == "INCONCLUSIVE"

    def test_a_gateway_that_does_not_follow_fails_the_task_and_a_retry_goes_on(
        self, tunnel: Tunnel, rollout: str
    ) -> None:
        tunnel.gateway.stuck = True
        with pytest.raises(GatewayError):
            tunnel.enter(rollout, "shadow")
        tunnel.gateway.stuck = False
        assert tunnel.enter(rollout, "shadow")["generation"] == 2


class TestRollback:
    def test_traffic_returns_to_what_served_before(self, tunnel: Tunnel) -> None:
        old = tunnel.fly("a")
        rollout = tunnel.begin(tunnel.register()["model_version"], run="release/b")["rollout"]
        tunnel.pass_stage(rollout, "shadow")
        tunnel.enter(rollout, "canary")
        found = tunnel.roll_back(rollout)
        assert (found["changed"], found["to"]) == (True, old)
        route = tunnel.ledger.route("tiny")
        assert route is not None
        assert (route.table.champion.version, route.table.challenger) == (old, None)
        assert tunnel.gateway.waited[-1] == route.generation
        assert tunnel.mlflow.aliases == {"champion": "1"}

    def test_again_is_told_once(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.enter(rollout, "shadow")
        first = tunnel.roll_back(rollout, "first reason")
        again = tunnel.roll_back(rollout, "second reason")
        assert again == first
        assert len(tunnel.ledger.entries("tiny", frozenset({Event.ROLLED_BACK}))) == 1

    def test_even_after_promotion(self, tunnel: Tunnel) -> None:
        old = tunnel.fly("a")
        rollout = tunnel.begin(tunnel.register()["model_version"], run="release/b")["rollout"]
        for stage in STAGES:
            tunnel.pass_stage(rollout, stage)
        tunnel.promote(rollout)
        assert tunnel.roll_back(rollout)["to"] == old
        assert tunnel.champion() == old

    def test_before_the_first_stage_there_is_nothing_to_move(self, tunnel: Tunnel, rollout: str) -> None:
        before = tunnel.ledger.route("tiny")
        assert not tunnel.roll_back(rollout)["changed"]
        assert tunnel.ledger.route("tiny") == before

    def test_a_version_that_does_not_load_any_more_is_passed_over(self, tunnel: Tunnel) -> None:
        first, second = tunnel.fly("a"), tunnel.fly("b")
        rollout = tunnel.begin(tunnel.register()["model_version"], run="release/c")["rollout"]
        tunnel.enter(rollout, "shadow")
        digest = next(row.digest for row in tunnel.versions() if row.version == second)
        tunnel.store.put(f"models/tiny/{digest}/model.json", b"{}")
        shutil.rmtree(tunnel.settings.home / "cache", ignore_errors=True)
        found = tunnel.roll_back(rollout)
        assert found["to"] == first
        assert second in found["note"]

    def test_with_nothing_to_go_back_to_the_candidate_serves_on(self, tunnel: Tunnel) -> None:
        release = tiny_spec().release.model_dump()
        tunnel.spec = tiny_spec(release={**release, "bootstrap": None})
        rollout = tunnel.begin(tunnel.register()["model_version"])["rollout"]
        tunnel.enter(rollout, "shadow")
        found = tunnel.roll_back(rollout)
        assert (found["changed"], found["to"]) == (False, None)
        assert "a person must decide" in found["note"]
        assert tunnel.champion() == "1.0.0"
        assert tunnel.roll_back(rollout) == found
        second = tunnel.begin(tunnel.register()["model_version"], run="release/2")
        assert second["champion"]["version"] == "1.0.0"  # the way is free for a better one
        tunnel.enter(second["rollout"], "shadow")
        assert tunnel.roll_back(second["rollout"])["to"] == "1.0.0"

    def test_mlflow_being_away_does_not_keep_traffic_from_going_back(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.enter(rollout, "shadow")
        tunnel.mlflow.broken = True
        found = tunnel.roll_back(rollout)
        assert found["changed"]
        assert "MLflow" in found["registry"]

    def test_a_gateway_that_does_not_follow_is_an_error_after_the_ledger_changed(
        self, tunnel: Tunnel, rollout: str
    ) -> None:
        tunnel.enter(rollout, "shadow")
        tunnel.gateway.stuck = True
        with pytest.raises(GatewayError):
            tunnel.roll_back(rollout)
        assert tunnel.ledger.route("tiny").table.challenger is None  # type: ignore[union-attr]
        with pytest.raises(GatewayError):
            tunnel.roll_back(rollout)
        tunnel.gateway.stuck = False
        assert tunnel.roll_back(rollout)["changed"]


class TestSomebodyElse:
    def test_a_stage_is_not_entered_over_a_change(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.pass_stage(rollout, "shadow")
        generation = interfere(tunnel)
        with pytest.raises(StaleRoute, match="by you: by hand"):
            tunnel.enter(rollout, "canary")
        assert tunnel.ledger.route("tiny").generation == generation  # type: ignore[union-attr]

    def test_before_the_first_stage_too(self, tunnel: Tunnel, rollout: str) -> None:
        interfere(tunnel)
        with pytest.raises(StaleRoute):
            tunnel.enter(rollout, "shadow")

    def test_a_stage_whose_traffic_was_taken_ends_inconclusive(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.enter(rollout, "shadow")
        interfere(tunnel)
        found = tunnel.judge(rollout, "shadow")
        assert (found["wait"], found["verdict"]) == (False, "INCONCLUSIVE")
        assert "changed by someone else" in found["why"][0]

    def test_nothing_is_promoted_over_a_change(self, tunnel: Tunnel, rollout: str) -> None:
        for stage in STAGES:
            tunnel.pass_stage(rollout, stage)
        interfere(tunnel)
        with pytest.raises(StaleRoute):
            tunnel.promote(rollout)
        assert tunnel.champion() == "6.6.6"

    def test_a_rollback_leaves_their_traffic_alone(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.enter(rollout, "shadow")
        interfere(tunnel)
        assert not tunnel.roll_back(rollout)["changed"]
        assert tunnel.champion() == "6.6.6"

    def test_a_rollback_that_meets_a_change_at_that_moment_looks_again(
        self, tunnel: Tunnel, rollout: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tunnel.enter(rollout, "shadow")
        swap = Ledger.swap_route

        def race(self: Ledger, *arguments: Any, **named: Any) -> int:
            monkeypatch.setattr(Ledger, "swap_route", swap)
            interfere(tunnel)
            return swap(self, *arguments, **named)

        monkeypatch.setattr(Ledger, "swap_route", race)
        assert not tunnel.roll_back(rollout)["changed"]
        assert tunnel.champion() == "6.6.6"


class TestServedFully:
    """Pure: which versions had all traffic, the latest first."""

    def route(self, generation: int, champion: str, **fields: Any) -> Route:
        challenger = fields.pop("challenger", None)
        table = RoutingTable(
            champion=Variant(role=Role.CHAMPION, version=champion, digest="d"),
            challenger=Variant(role=Role.CHALLENGER, version=challenger, digest="d") if challenger else None,
            **fields,
        )
        return Route(generation, table, "", "", START)

    def found(self, *routes: Route, **named: Any) -> list[str]:
        return [variant.version for variant in served_fully(routes, **{"without": "3.0.0", **named})]

    def test_the_latest_first_and_each_once(self) -> None:
        assert self.found(self.route(3, "1.0.0"), self.route(2, "2.0.0"), self.route(1, "1.0.0")) == ["1.0.0", "2.0.0"]

    def test_a_share_or_a_shadow_is_not_all_traffic(self) -> None:
        shared = self.route(2, "2.0.0", challenger="4.0.0", challenger_share=0.5, stage="half", rollout="r")
        shadowed = self.route(3, "2.0.0", challenger="4.0.0", shadow=True, stage="shadow", rollout="r")
        assert self.found(shadowed, shared, self.route(1, "1.0.0")) == ["1.0.0"]

    def test_a_candidate_that_was_alone_is_not_settled_while_it_is_judged(self) -> None:
        assert self.found(self.route(2, "2.0.0", stage="shadow", rollout="r"), self.route(1, "1.0.0")) == ["1.0.0"]

    def test_neither_the_bad_one_nor_its_rollout(self) -> None:
        routes = [self.route(3, "3.0.0"), self.route(2, "2.0.0", rollout="r"), self.route(1, "1.0.0")]
        assert self.found(*routes) == ["2.0.0", "1.0.0"]
        assert self.found(*routes, rollout="r") == ["1.0.0"]

    def test_nothing_served(self) -> None:
        assert self.found() == []


class TestRevert:
    def revert(self, tunnel: Tunnel, to: str | None = None) -> dict[str, Any]:
        return revert(tunnel.settings, "tiny", to=to, reason="it is wrong", actor="on call", at=tunnel.now)

    def test_to_the_last_that_served(self, tunnel: Tunnel) -> None:
        tunnel.fly("a"), tunnel.fly("b"), tunnel.fly("c")
        assert self.revert(tunnel)["to"] == "1.1.0"
        assert self.revert(tunnel)["to"] == "1.2.0"  # what served last before that

    def test_to_a_named_version_that_served(self, tunnel: Tunnel) -> None:
        tunnel.fly("a"), tunnel.fly("b"), tunnel.fly("c")
        assert self.revert(tunnel, "1.0.0")["to"] == "1.0.0"
        assert tunnel.champion() == "1.0.0"

    @pytest.mark.parametrize("to", ["1.0.1", "9.9.9"])
    def test_not_to_what_never_served(self, tunnel: Tunnel, to: str) -> None:
        tunnel.fly("a")
        with pytest.raises(Exception, match="no version"):
            self.revert(tunnel, to)
        assert tunnel.champion() == "1.0.0"

    def test_it_ends_a_rollout_under_way(self, tunnel: Tunnel) -> None:
        old = tunnel.fly("a")
        rollout = tunnel.begin(tunnel.register()["model_version"], run="release/b")["rollout"]
        tunnel.enter(rollout, "shadow")
        assert self.revert(tunnel)["to"] == old
        assert tunnel.judge(rollout, "shadow")["verdict"] == "INCONCLUSIVE"
        assert not tunnel.roll_back(rollout)["changed"]

    def test_nothing_serves(self, tunnel: Tunnel) -> None:
        with pytest.raises(Exception, match="nothing serves"):
            self.revert(tunnel)


class Killed(BaseException):
    """The process is gone."""


class TestCrashes:
    """A process that dies before or after any write, and is started again, ends where an unharmed one ends."""

    @pytest.mark.parametrize("ends_well", [True, False])
    def test_whenever_it_dies_the_story_is_the_same(
        self, fresh: Callable[[], Tunnel], ends_well: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unharmed, writes = self.story(fresh(), ends_well, None, monkeypatch)
        assert writes > 8
        for number in range(1, writes + 1):
            for after in (False, True):
                harmed, _ = self.story(fresh(), ends_well, (number, after), monkeypatch)
                assert harmed == unharmed, f"died {'after' if after else 'before'} write {number}"

    def story(
        self, tunnel: Tunnel, ends_well: bool, death: tuple[int, bool] | None, patch: pytest.MonkeyPatch
    ) -> tuple[Any, int]:
        """What the ledger holds at the end, and how many writes that took."""
        insert, writes = Ledger._insert, 0

        def dying(self: Ledger, *arguments: Any) -> bool:
            nonlocal writes
            writes += 1
            if death == (writes, False):
                raise Killed
            done = insert(self, *arguments)
            if death == (writes, True):
                raise Killed
            return done

        digest = tunnel.package()
        steps: list[Callable[[], Any]] = [lambda: tunnel.register(digest), lambda: tunnel.begin("1.0.0")]
        with patch.context() as context:
            context.setattr(Ledger, "_insert", dying)
            rollout = [self.tried(step) for step in steps][-1]["rollout"]
            for stage in STAGES:
                self.tried(lambda stage=stage: tunnel.enter(rollout, stage))
                tunnel.later(5)
                tunnel.gateway.shown = bad() if stage == "canary" and not ends_well else {}
                if self.tried(lambda stage=stage: tunnel.judge(rollout, stage))["verdict"] != "PASS":
                    self.tried(lambda: tunnel.roll_back(rollout))
                    break
            else:
                self.tried(lambda: tunnel.promote(rollout))
        route = tunnel.ledger.route("tiny")
        assert route is not None
        routes = [route, *tunnel.ledger.routes_before("tiny", route.generation)]
        tables = [(found.table.stage, found.table.champion.version, found.table.challenger_share) for found in routes]
        events = [(entry.event, entry.model_version) for entry in tunnel.ledger.entries("tiny")]
        return (tables, events, len(tunnel.mlflow.versions), tunnel.mlflow.aliases), writes

    def tried(self, step: Callable[[], Any]) -> Any:
        """Runs a step as Airflow does: again when its process died."""
        try:
            return step()
        except Killed:
            return step()
