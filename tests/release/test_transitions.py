"""Whatever is called in whatever order: traffic only moves forward on verdicts, and the ledger never contradicts
itself."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from include.errors import WindtunnelError
from include.release import steering
from include.release.ledger import Event, Route
from include.release.rollback import revert
from include.settings import Settings
from include.store.database import open_database
from tests.release.conftest import Tunnel, make_tunnel, variant

STAGES = ("shadow", "canary", "full")
TRAFFIC = {
    "fine": {},
    "bad": {"variants": {"champion": variant(), "challenger": variant(quality={"hit_at_10": {"mean": 0.1, "n": 200}})}},
    "none": {"variants": {"champion": variant(requests=0), "challenger": variant(requests=0, labels=0, quality={})}},
}
stages, numbers = st.sampled_from(STAGES), st.integers(0, 1)


class Releases(RuleBasedStateMachine):
    """Two candidates, two runs, any order of calls, any traffic."""

    template: ClassVar[Path]

    @initialize()
    def install(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.template, self.folder / "ledger.db")
        environment = {
            "WINDTUNNEL_HOME": str(self.folder),
            "WINDTUNNEL_DATABASE_URL": f"sqlite:///{self.folder}/ledger.db",
        }
        self.tunnel: Tunnel = make_tunnel(Settings.from_env(environment), self.folder / "models", self.patch)
        self.versions = [self.tunnel.register(run=f"run{number}")["model_version"] for number in range(2)]
        self.rollouts: dict[int, str] = {}

    def teardown(self) -> None:
        if hasattr(self, "tunnel"):
            self.patch.undo()
            open_database.cache_clear()
            shutil.rmtree(self.folder)

    @rule(number=numbers)
    def begin(self, number: int) -> None:
        with suppress(WindtunnelError):
            found = self.tunnel.begin(self.versions[number], run=f"release/{number}")
            if found["skip"] is None:
                self.rollouts[number] = found["rollout"]

    @rule(number=numbers, stage=stages)
    def enter(self, number: int, stage: str) -> None:
        self._call(number, lambda rollout: self.tunnel.enter(rollout, stage))

    @rule(number=numbers, stage=stages, kind=st.sampled_from(sorted(TRAFFIC)), seconds=st.sampled_from([0.5, 5, 61]))
    def judge(self, number: int, stage: str, kind: str, seconds: float) -> None:
        self.tunnel.gateway.shown = TRAFFIC[kind]
        self.tunnel.later(seconds)
        self._call(number, lambda rollout: self.tunnel.judge(rollout, stage))

    @rule(number=numbers)
    def go_on(self, number: int) -> None:
        """One stage further, as a release does: makes long stories likely enough to be told."""
        for stage in STAGES:
            self.tunnel.gateway.shown = {}
            self._call(number, lambda rollout, stage=stage: self.tunnel.enter(rollout, stage))
            self.tunnel.later(5)
            self._call(number, lambda rollout, stage=stage: self.tunnel.judge(rollout, stage))

    @rule(number=numbers)
    def promote(self, number: int) -> None:
        self._call(number, self.tunnel.promote)

    @rule(number=numbers)
    def roll_back(self, number: int) -> None:
        self._call(number, self.tunnel.roll_back)

    @rule(what=st.sampled_from(["pause", "resume", "promote", "abort"]))
    def steer(self, what: str) -> None:
        named = {"full": True} if what == "promote" else {}
        with suppress(WindtunnelError):
            say = getattr(steering, what)
            say(self.tunnel.settings, "tiny", reason="by hand", actor="you", at=self.tunnel.now, **named)

    @rule()
    def revert(self) -> None:
        with suppress(WindtunnelError):
            revert(self.tunnel.settings, "tiny", to=None, reason="by hand", actor="you", at=self.tunnel.now)

    @invariant()
    def traffic_follows_verdicts(self) -> None:
        if not hasattr(self, "tunnel"):
            return
        passed = self._passed()
        routes = self._routes()
        assert [route.generation for route in routes] == list(range(len(routes), 0, -1))
        for route in routes:
            table = route.table
            if table.challenger is not None:
                before = STAGES[: STAGES.index(table.stage)]
                assert all((table.rollout, stage) in passed for stage in before)
                assert table.challenger_share == {"shadow": 0.0, "canary": 0.05, "full": 1.0}[table.stage]
                assert table.shadow == (table.stage == "shadow")
            if table.champion.version in self.versions:
                rollout = self.rollouts[self.versions.index(table.champion.version)]
                assert all((rollout, stage) in passed for stage in STAGES), "a champion that did not pass every stage"

    @invariant()
    def the_end_of_a_rollout_is_its_end(self) -> None:
        if not hasattr(self, "tunnel"):
            return
        newest = self._routes()[:1]
        for entry in self.tunnel.ledger.entries("tiny", frozenset({Event.ROLLED_BACK}), limit=1000):
            rollout = entry.record.get("rollout")
            if rollout and newest and newest[0].table.rollout == rollout:
                assert newest[0].table.challenger is None
                assert newest[0].table.champion.version != entry.model_version

    def _call(self, number: int, step: Callable[[str], Any]) -> None:
        """A refusal is an answer; anything else than our own errors is a fault."""
        if number in self.rollouts:
            with suppress(WindtunnelError):
                step(self.rollouts[number])

    def _routes(self) -> list[Route]:
        route = self.tunnel.ledger.route("tiny")
        return [route, *self.tunnel.ledger.routes_before("tiny", route.generation)] if route else []

    def _passed(self) -> set[tuple[str, str]]:
        judged = self.tunnel.ledger.entries("tiny", frozenset({Event.STAGE_JUDGED}), limit=1000)
        return {
            (entry.record["rollout"], entry.record["stage"]) for entry in judged if entry.record["verdict"] == "PASS"
        }


@pytest.mark.slow
def test_any_order_of_calls(tmp_path: Path) -> None:
    Releases.template = tmp_path / "template.db"
    open_database(f"sqlite:///{Releases.template}").dispose()
    case = Releases.TestCase()
    case.settings = settings(
        max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    case.runTest()
