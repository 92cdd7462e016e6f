"""The way back: to what served everything and still loads, once, whatever else happens."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from include.release.gateway import GatewayError
from include.release.ledger import Event, Route
from include.release.rollback import revert, served_fully
from include.release.routing import Role, RoutingTable, Variant
from tests.fakes.tiny_family import tiny_spec
from tests.release.conftest import STAGES, START, Tunnel


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
