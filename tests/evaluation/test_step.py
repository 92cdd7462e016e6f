"""The step `evaluate`, whole: packages in, report and card out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from include.errors import DataError, UserError
from include.evaluation import costing
from include.evaluation.adjust import COST_METRICS
from include.evaluation.gates import decide
from include.evaluation.performance import Timings
from include.evaluation.step import evaluate
from include.serving.package import PackageError
from include.steps.entry import StepContext
from include.store.objects import ObjectStore
from tests.fakes.tiny_family import TinyDataset, TinyFamily, tiny_spec

Context = Callable[..., StepContext]
Package = Callable[..., str]


@pytest.mark.slow
def test_everything_that_gates_and_registry_need_comes_out(
    context: Context, package: Package, store: ObjectStore
) -> None:
    champion = {"version": "1.0.0", "digest": package(skill=0.7, seed=5)}
    found = evaluate(context(candidate=package(skill=0.95), champion=champion))

    assert set(found["summary"]) == {"hit_at_1", "map"} | COST_METRICS
    assert found["summary"]["hit_at_1"]["low"] > 0.85
    assert set(found["comparisons"]) == {"champion", "guess", "zero_shot"}
    assert found["comparisons"]["guess"]["hit_at_1"]["low"] > 0
    assert {"latency_p95_ms", "package_mb"} <= set(found["comparisons"]["champion"])
    assert not COST_METRICS & set(found["comparisons"]["zero_shot"])
    assert found["baselines"]["guess"]["metrics"]["hit_at_1"]["value"] < 0.3
    assert found["signature"]["inputs"] == {"question": "BYTES"}
    assert found["n"] == 60

    record = {"splits": {"test": found}, "gates": [gate.model_dump() for gate in tiny_spec().evaluation.gates]}
    assert decide({**record, "confidence": 0.95, "champion": "1.0.0"})["verdict"] == "PASS"

    report = json.loads(store.get(found["report_key"]))
    groups = report["splits"]["test"]["slices"]["document"]["groups"]
    assert {name: group["n"] for name, group in groups.items()} == {"doc0": 20, "doc1": 20, "doc2": 20}
    assert all(store.exists(key) for key in report["splits"]["test"]["examples"].values())
    card = store.get(found["card_key"]).decode()
    assert "n = 60 examples" in card
    assert "| hit_at_1 |" in card


@pytest.mark.slow
def test_references_are_evaluated_once(context: Context, package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    evaluated = TinyFamily.evaluate
    monkeypatch.setattr(
        TinyFamily,
        "evaluate",
        lambda self, model, *rest: asked.append(model.config["skill"]) or evaluated(self, model, *rest),
    )
    first = evaluate(context(candidate=package(skill=0.95)))
    assert sorted(asked) == [0.1, 0.3, 0.95]
    second = evaluate(context(candidate=package(skill=0.9)))
    assert sorted(asked) == [0.1, 0.3, 0.9, 0.95]
    assert first["baselines"] == second["baselines"]


@pytest.mark.slow
def test_gates_on_another_split_are_measured_there(context: Context, package: Package) -> None:
    gate = {"name": "v", "metric": "hit_at_1", "operator": "gte", "threshold": 0.5, "split": "validation"}
    spec = tiny_spec(evaluation={"gates": [gate], "latency_requests": 20, "resamples": 100})
    found = evaluate(context(spec, candidate=package(), zero_shot=False))
    assert found["other_splits"]["validation"]["summary"]["hit_at_1"]["n"] == 30


@pytest.mark.slow
def test_a_baseline_that_already_serves_is_measured_once(context: Context, package: Package) -> None:
    digest = evaluate(context(candidate=package(), zero_shot=False))["baselines"]["guess"]["digest"]
    champion = {"version": "0.1.0", "digest": digest}
    found = evaluate(context(candidate=package(), champion=champion, zero_shot=False))
    champion_costs, baseline_costs = found["comparisons"]["champion"], found["comparisons"]["guess"]
    assert champion_costs == baseline_costs


SURE = {"confidence": "score", "correct": "hit_at_1", "targets": [0.9, 0.99]}
PROMISE = {"name": "answers_enough", "metric": "coverage_at_90", "operator": "gte", "threshold": 0.5}


def promising(**changes: Any) -> Any:
    return tiny_spec(
        evaluation={
            "gates": [PROMISE], "selective": {**SURE, **changes}, "resamples": 100, "latency_requests": 20,
            "slices": ["document"],
        }
    )  # fmt: skip


@pytest.mark.slow
def test_the_coverage_at_a_promised_accuracy_is_measured_gated_and_on_the_card(
    context: Context, package: Package, store: ObjectStore
) -> None:
    found = evaluate(context(promising(), candidate=package(skill=1.0), zero_shot=False, baselines=[]))
    assert found["summary"]["coverage_at_90"]["value"] > 0.8
    assert found["summary"]["coverage_at_99"]["value"] == 0.0, "60 examples cannot prove 99%"
    record = {"splits": {"test": found}, "gates": [PROMISE], "confidence": 0.95, "champion": None}
    assert decide(record)["verdict"] == "PASS"
    ninety_nine = {**PROMISE, "metric": "coverage_at_99"}
    assert decide({**record, "gates": [ninety_nine]})["verdict"] == "INCONCLUSIVE"
    report = json.loads(store.get(found["report_key"]))
    assert report["selective"] == found["selective"]
    assert [each["target"] for each in report["selective"]] == [0.9, 0.99]
    card = store.get(found["card_key"]).decode()
    assert "Answering only when sure" in card and "none can be promised" in card


@pytest.mark.parametrize(("changes", "said"), [({"confidence": "mood"}, "mood"), ({"correct": "taste"}, "taste")])
def test_a_promise_about_what_is_not_there_is_refused(
    context: Context, package: Package, changes: dict[str, str], said: str
) -> None:
    with pytest.raises((DataError, UserError), match=said):
        evaluate(context(promising(**changes), candidate=package(), zero_shot=False, baselines=[]))


@pytest.mark.parametrize(("p50", "decided"), [(5.0, True), (10.0, False), (20.0, True)])
def test_a_cost_is_measured_until_its_gate_is_decided(
    context: Context, package: Package, monkeypatch: pytest.MonkeyPatch, p50: float, decided: bool
) -> None:
    asked: list[bool] = []

    def measured(folders: Any, inputs: Any, requests: int, *, enough: Any, rounds: int) -> dict[str, Timings]:
        request_ms = np.random.default_rng(1).normal(p50, 1.0, 100)
        timings = {digest: Timings(request_ms, request_ms[:5] * 10, 100.0, 1.0) for digest in folders}
        asked.append(enough(timings))
        return timings

    monkeypatch.setattr(costing, "measure", measured)
    gate = {"name": "fast", "metric": "latency_p50_ms", "operator": "lte", "threshold": 10.0}
    spec = tiny_spec(evaluation={"gates": [gate], "resamples": 100, "latency_requests": 20})
    evaluate(context(spec, candidate=package(), zero_shot=False))
    assert asked == [decided]


class TestRefusals:
    def test_a_dataset_that_changed_under_its_version(self, context: Context, package: Package) -> None:
        with pytest.raises(DataError, match="not the one"):
            evaluate(context(candidate=package(), dataset_digest="0" * 64))

    def test_a_baseline_that_nobody_knows(self, context: Context, package: Package) -> None:
        with pytest.raises(UserError, match="no baseline 'gess'"):
            evaluate(context(candidate=package(), baselines=["gess"]))

    def test_a_candidate_that_is_not_in_the_store(self, context: Context) -> None:
        with pytest.raises(PackageError, match="not whole"):
            evaluate(context(candidate="0" * 64))

    def test_an_altered_champion(self, context: Context, package: Package, store: ObjectStore) -> None:
        digest = package(skill=0.5)
        store.put(f"models/tiny/{digest}/model.json", b'{"skill": 1.0}')
        with pytest.raises(PackageError, match="altered"):
            evaluate(context(candidate=package(), champion={"version": "1.0.0", "digest": digest}))

    def test_a_slice_that_the_family_does_not_give(self, context: Context, package: Package) -> None:
        gates = [gate.model_dump() for gate in tiny_spec().evaluation.gates]
        spec = tiny_spec(evaluation={"gates": gates, "slices": ["region"], "resamples": 100})
        with pytest.raises(UserError, match="region"):
            evaluate(context(spec, candidate=package()))

    def test_an_empty_test_split(self, context: Context, package: Package, dataset: TinyDataset) -> None:
        dataset._sizes["test"] = 0
        with pytest.raises(DataError, match="no example"):
            evaluate(context(candidate=package()))
