"""A process of the release engine dies at any moment, and its successor goes on from the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from include.release.ledger import Ledger
from tests.release.conftest import STAGES, Tunnel, bad


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
