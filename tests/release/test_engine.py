"""Rollouts: forward on evidence, never past a stage that was not passed, and never over somebody else's change."""

from __future__ import annotations

from typing import Any

import pytest

from include.release.gateway import GatewayError
from include.release.ledger import Event, Ledger, StaleRoute
from include.release.state import ReleaseError
from include.serving.package import PackageError
from tests.fakes.tiny_family import tiny_spec
from tests.release.conftest import STAGES, Tunnel, bad, interfere, variant


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
        told = [
            Event.ROLLOUT_BEGUN,
            Event.LOAD_CHECKED,
            *stages[:-1],
            Event.STAGE_BEGUN,
            Event.STAGE_JUDGED,
            Event.PROMOTED,
        ]
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
