"""The step's further questions, from spec to gate: changed requests, groups, known cases, personal data, audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from include.errors import DataError, UserError
from include.evaluation import costing, personal
from include.evaluation.cases import pin_cases
from include.evaluation.documents import Document, DocumentError, read
from include.evaluation.gates import decide
from include.evaluation.performance import Timings
from include.evaluation.step import evaluate
from include.steps.entry import StepContext
from include.store.objects import ObjectStore
from tests.fakes.tiny_family import tiny_spec

Context = Callable[..., StepContext]
Package = Callable[..., str]

CHANGES = [
    {"name": "typos", "change": "misspelling", "rate": 0.5},
    {"name": "gone", "change": "missing"},
    {"name": "elsewhere", "change": "out_of_scope", "requests": [{"question": "who won the cup"}], "below": 0.5},
]
FLOOR = {"name": "floor", "metric": "hit_at_1", "operator": "gte", "threshold": 0.5}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs are measured elsewhere, in processes of their own."""

    def measured(folders: Any, *_: Any, **__: Any) -> dict[str, Timings]:
        return {digest: Timings(np.full(40, 5.0), np.full(5, 50.0), 100.0, 1.0) for digest in folders}

    monkeypatch.setattr(costing, "measure", measured)


def spec(*gates: dict[str, Any], **parts: Any) -> Any:
    return tiny_spec(evaluation={"gates": [FLOOR, *gates], "resamples": 100, "latency_requests": 20, **parts})


def judged(found: dict[str, Any], *gates: dict[str, Any], **more: Any) -> dict[str, Any]:
    record = {"splits": {"test": found}, "gates": [FLOOR, *gates], "confidence": 0.95, "champion": None}
    return decide({**record, "cases": found["cases"], **more})


def run(context: Context, package: Package, spec: Any, skill: float = 1.0, **inputs: Any) -> dict[str, Any]:
    return evaluate(context(spec, candidate=package(skill=skill), zero_shot=False, baselines=[], **inputs))


def test_changed_requests_reach_gates_report_and_card(context: Context, package: Package, store: ObjectStore) -> None:
    stable = {"name": "stable", "metric": "hit_at_10_under_typos", "operator": "gte", "reference": "clean"}
    calm = {"name": "calm", "metric": "handled_under_gone", "operator": "gte", "threshold": 0.8}
    found = run(context, package, spec(stable, calm, robustness={"changes": CHANGES, "examples": 30}))
    assert found["summary"]["handled_under_gone"] | {"low": 0, "sd": 0} == {
        "value": 1.0, "low": 0, "high": 1.0, "n": 30, "sd": 0,
    }  # fmt: skip
    outcome = judged(found, stable, calm)
    assert {gate["name"]: gate["verdict"] for gate in outcome["gates"]} == {
        "floor": "PASS", "stable": "FAIL", "calm": "PASS",
    }  # fmt: skip
    assert "clean's hit_at_10_under_typos" in outcome["why"][0]
    report = json.loads(store.get(found["report_key"]))
    assert report["robustness"]["changes"]["typos"]["altered"] == 30
    assert 0.0 <= report["robustness"]["metrics"]["told_apart_under_elsewhere"]["value"] <= 1.0
    card = store.get(found["card_key"]).decode()
    assert "## Changed requests" in card and "| typos | hit_at_10 |" in card
    assert "hit_at_10_under_typos" not in card.split("## Changed requests")[0]


@pytest.mark.parametrize(("threshold", "asked"), [(0.5, 10), (0.9, 60)])
def test_more_of_the_split_is_asked_where_a_gate_stays_open(
    context: Context, package: Package, store: ObjectStore, threshold: float, asked: int
) -> None:
    """Ten answered requests rule out a rate below 0.69, sixty one below 0.94."""
    calm = {"name": "calm", "metric": "handled_under_gone", "operator": "gte", "threshold": threshold}
    found = run(context, package, spec(calm, robustness={"changes": CHANGES[1:2], "examples": 10}))
    assert found["summary"]["handled_under_gone"]["n"] == asked
    assert judged(found, calm)["verdict"] == "PASS"


def test_two_candidates_meet_the_same_changed_requests(context: Context, package: Package) -> None:
    asked = spec(robustness={"changes": CHANGES[:1], "examples": 10})
    first, second = (run(context, package, asked, skill=skill)["summary"] for skill in (1.0, 0.999))
    assert first["hit_at_10_under_typos"] == second["hit_at_10_under_typos"]


def test_groups_are_compared_and_gated(context: Context, package: Package, store: ObjectStore) -> None:
    even = {"name": "even", "metric": "hit_at_1_gap_document", "operator": "lte", "threshold": 0.9}
    found = run(context, package, spec(even, fairness={"slices": ["document"], "smallest": 10}), skill=0.9)
    assert judged(found, even)["verdict"] == "PASS"
    assert found["summary"]["hit_at_1_worst_document"]["value"] <= found["summary"]["hit_at_1"]["value"]
    assert "## Groups by document" in store.get(found["card_key"]).decode()


def test_groups_that_are_too_small_leave_their_gate_open(context: Context, package: Package) -> None:
    even = {"name": "even", "metric": "hit_at_1_gap_document", "operator": "lte", "threshold": 0.9}
    found = run(context, package, spec(even, fairness={"slices": ["document"], "smallest": 50}))
    outcome = judged(found, even)
    assert outcome["verdict"] == "INCONCLUSIVE"
    assert "fewer than two groups of document have 50 examples" in outcome["why"][0]


@pytest.mark.parametrize("fairness", [{"slices": ["region"]}, {"slices": ["document"], "metrics": ["taste"]}])
def test_groups_and_metrics_that_nobody_knows_are_told(context: Context, package: Package, fairness: Any) -> None:
    with pytest.raises(UserError, match=r"region|taste"):
        run(context, package, spec(fairness=fairness))


class TestKnownCases:
    def pin(self, store: ObjectStore, tmp_path: Any, *cases: dict[str, Any]) -> str:
        path = tmp_path / "cases.jsonl"
        path.write_text("\n".join(map(json.dumps, cases)))
        key = pin_cases(store, "tiny", path)
        assert key is not None
        return key

    def case(self, identity: str, answer: str) -> dict[str, Any]:
        return {
            "id": identity, "inputs": {"question": "what is due"}, "truth": {"answer": answer}, "metric": "hit_at_10",
            "at_least": 1,
        }  # fmt: skip

    def test_each_must_come_out_right_and_a_wrong_one_is_named(
        self, context: Context, package: Package, store: ObjectStore, tmp_path: Any
    ) -> None:
        key = self.pin(store, tmp_path, self.case("fees", "WHAT IS DUE"), self.case("late", "NOTHING"))
        found = run(context, package, spec(), cases=key)
        outcome = judged(found)
        assert outcome["verdict"] == "FAIL"
        assert "1 of 2 are wrong: late (hit_at_10 is 0; asked for hit_at_10 >= 1)" in outcome["why"][0]
        assert judged(found, cases_action="warn")["verdict"] == "PASS"
        assert "`late`: hit_at_10 is 0" in store.get(found["card_key"]).decode()

    def test_all_right_passes(self, context: Context, package: Package, store: ObjectStore, tmp_path: Any) -> None:
        found = run(context, package, spec(), cases=self.pin(store, tmp_path, self.case("fees", "WHAT IS DUE")))
        outcome = judged(found)
        assert outcome["verdict"] == "PASS" and outcome["gates"][-1]["name"] == "known_cases"

    def test_cases_that_changed_under_the_run_are_refused(
        self, context: Context, package: Package, store: ObjectStore, tmp_path: Any
    ) -> None:
        key = self.pin(store, tmp_path, self.case("fees", "WHAT IS DUE"))
        store.put(key, store.get(key).replace(b"fees", b"fees2"))
        with pytest.raises(DataError, match="changed after the run began"):
            run(context, package, spec(), cases=key)


class TestPersonalData:
    GATE = {"name": "private", "metric": "personal_data", "operator": "lte", "threshold": 0}

    @pytest.mark.slow  # imports Presidio
    def test_it_is_found_in_the_package_and_never_repeated(
        self, context: Context, package: Package, store: ObjectStore
    ) -> None:
        asked = spec(self.GATE, personal_data={"allow": [r"desk@example\.com"]})
        digest = package(skill=1.0, who="ask jane.roe@example.com or desk@example.com")
        found = evaluate(context(asked, candidate=digest, baselines=[], zero_shot=False))
        assert judged(found, self.GATE)["verdict"] == "FAIL"
        report = store.get(found["report_key"]).decode()
        assert json.loads(report)["personal_data"]["found"] == [{"place": "model.json", "kind": "email"}]
        assert "jane.roe" not in report and "email in model.json" in store.get(found["card_key"]).decode()

    def test_without_the_library_nobody_says_that_there_is_none(
        self, context: Context, package: Package, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(personal, "cannot_look", lambda: "the extra `pii` is not installed")
        found = run(context, package, spec(self.GATE, personal_data={}))
        outcome = judged(found, self.GATE)
        assert outcome["verdict"] == "INCONCLUSIVE" and "is not installed" in outcome["why"][0]
        assert "not looked for" in store.get(found["card_key"]).decode()


def test_dependencies_that_nobody_audited_leave_their_gate_open(
    context: Context, package: Package, store: ObjectStore
) -> None:
    safe = {"name": "safe", "metric": "vulnerabilities", "operator": "lte", "threshold": 0}
    found = run(context, package, spec(safe))
    assert judged(found, safe)["verdict"] == "INCONCLUSIVE"
    assert "not audited (nobody has run" in store.get(found["card_key"]).decode()


def test_report_and_card_are_what_was_written_or_are_refused(
    context: Context, package: Package, store: ObjectStore
) -> None:
    found = run(context, package, spec())
    for name in ("report", "card"):
        document = Document(found[f"{name}_key"], found[f"{name}_digest"])
        data = read(store, document)
        store.put(document.key, data + b" ")
        with pytest.raises(DocumentError, match="was changed"):
            read(store, document)
        store.delete(document.key)
        with pytest.raises(DocumentError, match="gone"):
            read(store, document)
