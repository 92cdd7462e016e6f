"""Every decision that was stored is made again exactly, and what-if is asked by the names that people use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from include.errors import UserError
from include.release.decisions import KINDS, decide, list_decisions, replay
from include.release.paths import change_at
from include.store.database import open_database
from tests.fakes.tiny_family import FAMILY
from tests.release.conftest import Tunnel, variant
from tests.release.experiments.test_analysis import given_, rates

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
RETRAIN = {
    "family": FAMILY, "champion": "1.0.0", "requests": [], "cooldown_hours": 0.1, "now": NOW.isoformat(),
    "votes": [{"monitor": "drift", "asks": True, "why": "drifted", "cause": {"columns": ["score"], "by": 0.1 + 0.2}}],
}  # fmt: skip


@pytest.fixture
def engine(tunnel: Tunnel) -> Engine:
    return open_database(tunnel.settings.database_url)


@pytest.mark.every_database
def test_every_kind_of_decision_is_made_again_exactly(tunnel: Tunnel, engine: Engine) -> None:
    tunnel.fly()
    version = tunnel.register(run="second", cases={"key": "k", "n": 2, "failed": []})["model_version"]
    rollout = tunnel.begin(version, run="release/second")["rollout"]
    tunnel.enter(rollout, "shadow")
    tunnel.gateway.shown = {"variants": {"champion": variant(), "challenger": variant(errors=37, latency_p95_ms=1 / 3)}}
    tunnel.later(5)
    tunnel.judge(rollout, "shadow")
    decide(engine, FAMILY, "experiment", given_(rates(hit={"1.0.0": (5000, 1 / 3), "1.1.0": (5000, 0.4)})),
           code_version="c", at=NOW)  # fmt: skip
    decide(engine, FAMILY, "retrain", RETRAIN, code_version="c", at=NOW)
    decisions = list_decisions(engine, FAMILY)
    assert {decision.kind for decision in decisions} == set(KINDS)
    assert {decision.output.get("verdict") for decision in decisions} >= {"PASS", "FAIL"}
    for decision in decisions:
        found = replay(engine, decision.id)
        assert found["same"], (decision.kind, found["before"], found["after"])
        assert found["changed"] == {}


def judged(engine: Engine, low: float = 0.05) -> str:
    gates = [
        {"name": "floor", "metric": "hit", "operator": "gte", "threshold": 0.5, "margin": 0.0},
        {
            "name": "holds",
            "metric": "hit",
            "operator": "gte",
            "reference": "champion",
            "threshold": None,
            "margin": 0.0,
        },
    ]
    split = {
        "summary": {"hit": {"value": 0.9, "low": 0.85, "high": 0.95, "n": 100, "sd": 0.3}},
        "comparisons": {"champion": {"hit": {"difference": 0.0, "low": -low, "high": low, "n": 100, "sd": 0.3}}},
    }
    given = {"gates": gates, "confidence": 0.95, "champion": "1.0.0", "splits": {"test": split}, "attempt": 1}
    return decide(engine, FAMILY, "gate", {**given, "max_attempts": 1}, code_version="c", at=NOW).id


class TestWhatIf:
    def test_a_margin_means_that_of_every_comparison(self, engine: Engine) -> None:
        decision = judged(engine)
        assert replay(engine, decision)["before"]["verdict"] == "INCONCLUSIVE"
        found = replay(engine, decision, {"margin": 0.06})
        assert found["after"]["verdict"] == "PASS" and not found["same"]
        assert found["changed"] == {"gates.1.margin": [0.0, 0.06]}

    def test_gates_have_names(self, engine: Engine) -> None:
        found = replay(engine, judged(engine), {"gates.floor.threshold": 0.99, "confidence": 0.9})
        assert found["after"]["verdict"] == "FAIL"
        assert found["changed"] == {"gates.0.threshold": [0.5, 0.99], "confidence": [0.95, 0.9]}

    def test_values_that_make_no_sense_are_told_and_leave_the_decision(self, engine: Engine) -> None:
        decision = judged(engine)
        for changes in ({"confidence": "much"}, {"splits": None}, {"attempt": "x"}, {"gates.floor.operator": "near"}):
            with pytest.raises(UserError, match="no decision can be made"):
                replay(engine, decision, changes)
        assert replay(engine, decision)["same"]


class TestPaths:
    RECORD: dict[str, Any] = {"a": 1, "list": [{"name": "x", "deep": {"b": 2}}, {"name": "y", "b": 3}], "null": None}

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("a", ["a"]),
            ("list.0.deep.b", ["list.0.deep.b"]),
            ("list.x.deep.b", ["list.0.deep.b"]),
            ("b", ["list.0.deep.b", "list.1.b"]),
            ("null", ["null"]),
        ],
    )
    def test_what_a_path_names(self, path: str, expected: list[str]) -> None:
        assert list(change_at({**self.RECORD, "list": [dict(i) for i in self.RECORD["list"]]}, path, 0)) == expected

    @pytest.mark.parametrize("path", ["c", "list.2", "list.z", "a.b", "list.-1", "", ".", "list.²", "list." + "9" * 99])
    def test_what_leads_nowhere_is_told(self, path: str) -> None:
        with pytest.raises(UserError, match="has no"):
            change_at(dict(self.RECORD), path, 0)

    def test_of_two_of_a_name_none_is_meant(self) -> None:
        with pytest.raises(UserError, match="has no"):
            change_at({"gates": [{"name": "g", "t": 1}, {"name": "g", "t": 2}]}, "gates.g.t", 0)
