"""A process of the release engine dies at any moment, and its successor goes on from the ledger."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from include.release.ledger import Ledger
from include.release.registry import NO_MLFLOW
from include.store.database import open_database
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


class TestKilled:
    """`kill -9`, in a process of its own: nothing is tidied up, and the next one does it all again from the top."""

    @pytest.mark.parametrize("ends_well", [True, False])
    def test_before_every_write(
        self, fresh: Callable[[], Tunnel], ends_well: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unharmed, writes = self.story(self.tunnel(fresh), ends_well)
        assert writes > 8
        for number in range(1, writes + 1):
            tunnel = self.tunnel(fresh)
            assert self.killed(tunnel, ends_well, number), f"it never came to write {number}"
            assert self.story(tunnel, ends_well)[0] == unharmed, f"killed before write {number}"

    def tunnel(self, fresh: Callable[[], Tunnel]) -> Tunnel:
        made = fresh()
        made.settings = replace(made.settings, mlflow_url=NO_MLFLOW)
        made.package(skill=0.9)  # both processes find the same one
        made.models = 0
        return made

    def killed(self, tunnel: Tunnel, ends_well: bool, number: int) -> bool:
        """Runs the story in a child that kills itself before that write."""
        open_database(tunnel.settings.database_url).dispose()
        child = os.fork()
        if child == 0:
            try:
                insert, writes = Ledger._insert, 0

                def dying(ledger: Ledger, *arguments: Any) -> bool:
                    nonlocal writes
                    writes += 1
                    if writes == number:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return insert(ledger, *arguments)

                Ledger._insert = dying  # type: ignore[method-assign]
                self.story(tunnel, ends_well)
            finally:
                os._exit(0)
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])

    def story(self, tunnel: Tunnel, ends_well: bool) -> tuple[Any, int]:
        """A release from the top; what the ledger holds at the end, and how many writes that took."""
        before = self.told(tunnel)
        version = tunnel.register(tunnel.package(skill=0.9))["model_version"]
        rollout = tunnel.begin(version)["rollout"]
        for stage in STAGES:
            tunnel.enter(rollout, stage)
            tunnel.later(5)
            tunnel.gateway.shown = bad() if stage == "canary" and not ends_well else {}
            if tunnel.judge(rollout, stage)["verdict"] != "PASS":
                tunnel.roll_back(rollout)
                break
        else:
            tunnel.promote(rollout)
        tables, events = self.told(tunnel)
        return (tables, events), len(tables) + len(events) - sum(map(len, before))

    def told(self, tunnel: Tunnel) -> tuple[list[Any], list[Any]]:
        route = tunnel.ledger.route("tiny")
        routes = [route, *tunnel.ledger.routes_before("tiny", route.generation)] if route else []
        tables = [(found.table.stage, found.table.champion.version, found.table.challenger_share) for found in routes]
        return tables, [(entry.event, entry.model_version) for entry in tunnel.ledger.entries("tiny")]
