"""A bad model is released on purpose to a target of its own: it comes down, and production does not notice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.families.contract import load_code
from include.release.drill import faults, record
from include.release.drill.faults import DrillOnly, Fault, FaultPlan, FaultyRuntime
from include.release.drill.hold import LOAD_CHECK, hold
from include.release.drill.plan import TURNS, fault_plan, next_fault, summary
from include.release.ledger import Event, Ledger
from include.release.rollback import all_to
from include.release.routing import Role, Variant
from include.serving.package import publish
from include.serving.traffic import Example
from include.settings import Settings
from include.spec.models import FamilySpec
from include.store.database import open_database
from include.store.objects import open_store
from tests.fakes.tiny_family import CODE, FAMILY, TinyDataset, TinyFamily, TinyRuntime, tiny_package, tiny_spec

HELD = {
    "drill": "d1",
    "fault": "slow",
    "champion": "1.0.0",
    "outcome": "stopped",
    "stopped_at": "canary",
    "why": "latency: too slow",
    "detect_seconds": 2.5,
    "recover_seconds": 0.5,
    "asked": 100,
    "failed": 0,
    "by_candidate": 7,
}


@dataclass
class Production:
    """An installation whose champion serves by its ledger; it has no gateway."""

    settings: Settings
    ledger: Ledger
    champion: Variant
    examples: list[Example]

    def spec(self, **guardrails: Any) -> FamilySpec:
        rails = {"latency_floor_ms": 200, "max_memory_growth_mb": 100, **guardrails}
        release = {**tiny_spec().release.model_dump(), "guardrails": rails, "drill": {"rate": 60}}
        return tiny_spec(release=release)

    def hold(self, fault: Fault, **named: Any) -> dict[str, Any]:
        return hold(self.settings, self.spec(), fault, self.examples, name="test", **named)


@pytest.fixture
def production(settings: Settings, tmp_path: Path) -> Production:
    digest = tiny_package(open_store(settings.store_url), tmp_path / "champion")
    champion = Variant(role=Role.CHAMPION, version="1.0.0", digest=digest)
    ledger = Ledger(open_database(settings.database_url))
    ledger.swap_route(FAMILY, 0, all_to(champion), reason="test", actor="test", at=datetime.now(UTC))
    examples = [Example(asked, truth) for _, asked, truth in TinyFamily().requests(TinyDataset(200), "test")]
    return Production(settings, ledger, champion, examples)


class TestHeld:
    """Through the real engine and a gateway process."""

    def untouched(self, production: Production) -> None:
        route = production.ledger.route(FAMILY)
        assert route is not None
        assert (route.generation, route.table.champion) == (1, production.champion)
        assert production.ledger.entries(FAMILY) == []
        assert list((production.settings.home / "drill").iterdir()) == []

    @pytest.mark.slow
    def test_a_model_that_fails_among_users_is_taken_back(self, production: Production) -> None:
        found = production.hold(Fault.FAILING, live=True)
        assert (found["outcome"], found["stopped_at"], found["verdict"]) == ("stopped", "canary", "FAIL")
        assert found["why"].startswith("errors: ")
        assert found["detect_seconds"] > 0 and found["recover_seconds"] > 0
        assert 0 < found["failed"] < 0.1 * found["asked"]
        self.untouched(production)

    @pytest.mark.slow
    def test_one_that_takes_its_process_along_meets_nobody(self, production: Production) -> None:
        found = production.hold(Fault.CRASHING)
        assert (found["outcome"], found["stopped_at"]) == ("stopped", LOAD_CHECK)
        assert "SIGSEGV" in found["why"]
        assert (found["failed"], found["by_candidate"]) == (0, 0)
        self.untouched(production)

    @pytest.mark.slow
    def test_one_that_kills_the_gateways_processes_is_taken_back(self, production: Production) -> None:
        found = production.hold(Fault.KILLING, live=True)
        assert (found["outcome"], found["stopped_at"], found["verdict"]) == ("stopped", "canary", "FAIL")
        assert "gateway processes died" in found["why"] or found["why"].startswith("errors: ")
        self.untouched(production)

    @pytest.mark.slow
    def test_what_gets_through_is_told_as_missed(self, production: Production) -> None:
        harmless = FaultPlan(fault=Fault.WRONG, code=CODE, share=0.0)
        found = production.hold(Fault.WRONG, plan=harmless)
        assert (found["outcome"], found["stopped_at"]) == ("missed", None)
        assert found["by_candidate"] > 0
        assert "MISSED" in summary(found)
        self.untouched(production)

    def test_without_a_champion_there_is_nothing_to_spoil(self, settings: Settings) -> None:
        with pytest.raises(Exception, match="nothing serves in tiny"):
            hold(settings, tiny_spec(), Fault.SLOW, [], name="test")


class TestLedger:
    def test_a_drill_is_kept_once(self, production: Production) -> None:
        for _ in range(2):
            record.keep(production.settings, FAMILY, HELD, actor="me", at=datetime.now(UTC))
        assert [entry.event for entry in production.ledger.entries(FAMILY)] == [Event.DRILLED]
        last = record.last_drill(production.settings, FAMILY)
        assert last is not None
        assert (last.record["fault"], last.actor, last.model_version) == ("slow", "me", "1.0.0")

    def test_faults_take_turns(self, production: Production) -> None:
        tried = []
        for number in range(len(TURNS) + 1):
            tried.append(record.turn(production.settings, FAMILY))
            held = {**HELD, "drill": f"d{number}", "fault": tried[-1].value}
            record.keep(production.settings, FAMILY, held, actor="me", at=datetime.now(UTC))
        assert set(tried) == set(Fault)
        assert tried[-1] is tried[0]

    def test_a_fault_of_another_release_does_not_stop_the_turns(self) -> None:
        assert next_fault(["haunted"]) is TURNS[0]
        assert next_fault([]) is TURNS[0]


class TestFaults:
    """What each fault does to the answers."""

    def runtime(self, tmp_path: Path, fault: Fault, **plan: Any) -> FaultyRuntime:
        return FaultyRuntime(FaultPlan(fault=fault, code=CODE, **plan), TinyRuntime({"skill": 1.0}), tmp_path / "AWAKE")

    def answers(self, runtime: FaultyRuntime, n: int = 200) -> list[Any]:
        return [runtime.predict({"question": [f"question {number}"]})["answer"][0] for number in range(n)]

    def right(self, answers: list[Any]) -> float:
        return sum(answer == f"QUESTION {number}" for number, answer in enumerate(answers)) / len(answers)

    def test_wrong_gives_a_share_the_answer_to_another_question(self, tmp_path: Path) -> None:
        answers = self.answers(self.runtime(tmp_path, Fault.WRONG, share=0.3))
        assert 0.6 < self.right(answers) < 0.8
        assert len(set(answers)) > 120

    def test_skewed_gives_them_all_the_same(self, tmp_path: Path) -> None:
        answers = self.answers(self.runtime(tmp_path, Fault.SKEWED, share=0.3))
        assert 0.6 < self.right(answers) < 0.8
        assert max(answers.count(answer) for answer in set(answers)) > 40

    def test_failing_fails_on_the_same_inputs_and_answers_the_others(self, tmp_path: Path) -> None:
        runtime = self.runtime(tmp_path, Fault.FAILING, share=0.3)

        def failed() -> list[int]:
            found = []
            for number in range(100):
                try:
                    assert runtime.predict({"question": [f"question {number}"]})["answer"] == [f"QUESTION {number}"]
                except RuntimeError:
                    found.append(number)
            return found

        assert 15 < len(failed()) < 45
        assert failed() == failed()

    def test_slow_computes_again_and_takes_its_time(self, tmp_path: Path) -> None:
        class Counting(TinyRuntime):
            calls = 0

            def predict(self, inputs: Any) -> Any:
                Counting.calls += 1
                return super().predict(inputs)

        plan = FaultPlan(fault=Fault.SLOW, code=CODE, times=3, at_least_ms=30)
        started = datetime.now(UTC)
        FaultyRuntime(plan, Counting({"skill": 1.0}), tmp_path).predict({"question": ["why"]})
        assert Counting.calls == 3
        assert (datetime.now(UTC) - started).total_seconds() >= 0.03

    def test_it_answers_well_at_first_and_while_it_sleeps(self, tmp_path: Path) -> None:
        runtime = self.runtime(tmp_path, Fault.SKEWED, share=1.0, after=50)
        assert self.right(self.answers(runtime, 50)) == 1.0
        assert self.right(self.answers(runtime)) < 0.1
        sleeper = self.runtime(tmp_path, Fault.SKEWED, share=1.0, sleeps=True)
        assert self.right(self.answers(sleeper)) == 1.0
        faults.wake(tmp_path)
        assert self.right(self.answers(sleeper)) < 0.1

    def test_it_answers_nobody_where_no_drill_is_held(self, production: Production, tmp_path: Path) -> None:
        store = open_store(production.settings.store_url)
        tiny_package(store, tmp_path / "good")
        package = faults.spoil(tmp_path / "good", tmp_path / "bad", FaultPlan(fault=Fault.SLOW, code=CODE))
        publish(store, tmp_path / "bad")
        with pytest.raises(DrillOnly, match="bad on purpose"):
            load_code(package.code).load(tmp_path / "bad")

    @pytest.mark.parametrize("fault", list(Fault))
    def test_every_fault_goes_beyond_the_family_s_limits(self, production: Production, fault: Fault) -> None:
        plan = fault_plan(production.spec(), fault, code=CODE, latency_ms=400.0, live=True)
        assert plan.at_least_ms >= 2 * 1.5 * 400
        assert plan.kilobytes * 100 / 1000 > 100
        assert plan.sleeps
