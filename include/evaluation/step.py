"""The step `evaluate`: candidate against champion, baselines and the untrained model, on the same test examples.

Quality comes per example from the packages as they would serve, cost from the serving runtime in processes of its own.
The report holds everything, with intervals; the step's outputs hold what gates and the registry need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from include.data.datasets import open_dataset
from include.errors import DataError, UserError
from include.evaluation.adjust import COST_METRICS, UNTRAINED
from include.evaluation.card import model_card
from include.evaluation.contenders import CANDIDATE, contenders, fetch_all
from include.evaluation.examples import (
    Place,
    aligned,
    answered_numbers,
    check_examples,
    load_examples,
    save_answers,
    save_examples,
)
from include.evaluation.gates import TEST_SPLIT, GateInput, Verdict, judge_gate
from include.evaluation.intervals import Interval, mean_interval, paired_interval
from include.evaluation.performance import Timings, cost_comparison, cost_summary, machine, measure
from include.evaluation.selective import Selective, find_threshold
from include.evaluation.slices import check_slices, slice_report
from include.families.contract import DatasetView, Examples, Family, ModelRuntime, load_code
from include.serving.package import read_package
from include.steps.entry import StepContext
from include.steps.fingerprint import fingerprint

_SHARE = (0.0, 1.0)
_ROUNDS = 5


@dataclass(frozen=True)
class Bench:
    """What the parts of the evaluation share."""

    context: StepContext
    family: Family
    dataset: DatasetView
    digests: Mapping[str, str]
    folders: Mapping[str, Path]
    _loaded: dict[str, ModelRuntime] = field(default_factory=dict, repr=False)

    def runtime(self, name: str) -> ModelRuntime:
        """The loaded package of contender `name`; the last one asked for is kept, so that memory holds one at a
        time."""
        digest = self.digests[name]
        if digest not in self._loaded:
            self._loaded.clear()
            self._loaded[digest] = load_code(read_package(self.folders[digest]).code).load(self.folders[digest])
        return self._loaded[digest]

    @property
    def seed(self) -> int:
        """Of all resampling: on the same dataset the same outcomes have the same intervals, in every report."""
        return int(fingerprint(dataset=self.dataset.digest)[:8], 16)

    @property
    def bootstrap(self) -> dict[str, Any]:
        evaluation = self.context.document.model_spec.evaluation
        return {"confidence": evaluation.confidence, "resamples": evaluation.resamples, "seed": self.seed}


def evaluate(context: StepContext) -> dict[str, Any]:
    """Runs the evaluation; see the table of steps for inputs and outputs."""
    document = context.document
    spec, inputs = document.model_spec, document.inputs
    dataset = open_dataset(context.settings, spec.family, inputs["dataset_version"], spec.split.fold)
    if dataset.digest != inputs["dataset_digest"]:
        raise DataError(
            f"dataset {dataset.version} is not the one that the candidate was trained on",
            where=f"{spec.family} {dataset.version}",
            hint="its content changed after it was published; do not use it",
        )
    family = load_code(spec.code)
    digests = contenders(context, family, dataset)
    bench = Bench(context, family, dataset, digests, fetch_all(context, digests))
    signature = _signature(bench)
    answers_key = _save_answers(bench)
    splits = {split: _evaluate_split(bench, split) for split in _splits(context)}
    costs = _measure(bench)
    test = splits[TEST_SPLIT]
    selective = _selective(bench, answers_key)
    test["summary"] |= {found.metric: found.measured() for found in selective}
    test["summary"] |= costs["summary"]
    for name, comparison in costs["comparisons"].items():
        test["comparisons"][name] |= comparison
    package = read_package(bench.folders[digests[CANDIDATE]])
    report = {
        "family": spec.family,
        "dataset": {"version": dataset.version, "digest": dataset.digest},
        "packages": digests,
        "candidate": {"digest": package.digest, "bytes": package.size, "facts": package.facts},
        "champion": inputs.get("champion"),
        "splits": splits,
        "performance": costs["performance"],
        "selective": [found.to_json() for found in selective],
        "answers_key": answers_key,
        "confidence": spec.evaluation.confidence,
        "resamples": spec.evaluation.resamples,
        "seed": bench.seed,
        "code_version": document.code_version,
    }
    report_key = context.put_json("report.json", report)
    card_key = f"{document.output}/model_card.md"
    context.store.put(card_key, model_card(spec, report).encode())
    return {
        "report_key": report_key,
        "card_key": card_key,
        "answers_key": answers_key,
        "champion": inputs.get("champion"),
        "summary": test["summary"],
        "comparisons": test["comparisons"],
        "other_splits": {
            split: {"summary": result["summary"], "comparisons": result["comparisons"]}
            for split, result in splits.items()
            if split != TEST_SPLIT
        },
        "baselines": {name: _reference_record(test, digests, name) for name in inputs.get("baselines") or ()},
        "zero_shot": _reference_record(test, digests, UNTRAINED) if UNTRAINED in digests else None,
        "selective": [found.to_json() for found in selective],
        "signature": signature,
        "package_bytes": package.size,
        "n": test["n"],
    }


def _splits(context: StepContext) -> list[str]:
    asked = {gate.split for gate in context.document.model_spec.evaluation.gates} | {TEST_SPLIT}
    return sorted(asked, key=lambda split: (split != TEST_SPLIT, split))


def _evaluate_split(bench: Bench, split: str) -> dict[str, Any]:
    """Metrics of every contender on `split`, paired differences, and the candidate's slices."""
    examples = {name: _outcomes(bench, name, split) for name in bench.digests}
    ids = examples[CANDIDATE].ids
    metrics = {name: aligned(result, ids) for name, result in examples.items()}
    bounds = {
        metric: _SHARE if all(_is_share(values.get(metric)) for values in metrics.values()) else None
        for metric in metrics[CANDIDATE]
    }

    def interval(values: Any, metric: str) -> dict[str, Any]:
        return mean_interval(values, bounds=bounds.get(metric), **bench.bootstrap).to_json()

    summary = {metric: interval(values, metric) for metric, values in metrics[CANDIDATE].items()}
    comparisons = {
        name: {
            metric: _difference(
                paired_interval(values, metrics[name][metric], bounds=bounds[metric], **bench.bootstrap)
            )
            for metric, values in metrics[CANDIDATE].items()
            if metric in metrics[name]
        }
        for name in metrics
        if name != CANDIDATE
    }
    references = {
        name: {metric: interval(values, metric) for metric, values in result.items()}
        for name, result in metrics.items()
        if name != CANDIDATE
    }
    asked = bench.context.document.model_spec.evaluation.slices
    labels = examples[CANDIDATE].slices
    check_slices(asked, labels)
    slices = {
        name: slice_report(metrics[CANDIDATE], labels[name], bounds=bounds, **bench.bootstrap)
        for name in asked or sorted(labels)
    }
    return {
        "n": len(ids),
        "summary": summary,
        "comparisons": comparisons,
        "references": references,
        "slices": slices,
        "examples": {name: _place(bench, name, split).examples_key for name in bench.digests},
    }


def _outcomes(bench: Bench, name: str, split: str) -> Examples:
    """Outcomes per example of one contender: read back where they are known, computed where not."""
    place, store = _place(bench, name, split), bench.context.store
    stored = load_examples(store, place)
    if stored is not None:
        return stored
    names = list(bench.digests)
    bench.context.progress(names.index(name), len(names), "models", force=True, evaluating=name, split=split)
    found = check_examples(bench.family.evaluate(bench.runtime(name), bench.dataset, split), f"{name} on {split}")
    save_examples(store, place, found)
    return found


def _save_answers(bench: Bench) -> str:
    place = _place(bench, CANDIDATE, TEST_SPLIT)
    return save_answers(bench.context.store, place, bench.family, bench.runtime(CANDIDATE), bench.dataset)


def _selective(bench: Bench, answers_key: str) -> list[Selective]:
    """The thresholds that hold the promised accuracies of the candidate on the test split."""
    asked = bench.context.document.model_spec.evaluation.selective
    if asked is None:
        return []
    examples = _outcomes(bench, CANDIDATE, TEST_SPLIT)
    if asked.correct not in examples.metrics:
        raise UserError(
            f"there is no metric {asked.correct!r}",
            where="evaluation.selective.correct",
            hint=f"the family gives: {', '.join(sorted(examples.metrics))}",
        )
    confidence = answered_numbers(bench.context.store, answers_key, asked.confidence, examples.ids)
    quality = examples.metrics[asked.correct]
    return [
        find_threshold(confidence, quality, target=target, delta=asked.delta, seed=bench.seed)
        for target in asked.targets
    ]


def _measure(bench: Bench) -> dict[str, Any]:
    """Cost of the candidate, the champion and the baselines; the untrained model costs what the candidate costs.

    A machine that is busy with something else makes wide intervals. Where they leave a gate open, more is measured.
    """
    evaluation = bench.context.document.model_spec.evaluation
    digests = {name: digest for name, digest in bench.digests.items() if name != UNTRAINED}
    bench.context.progress(len(bench.digests), len(bench.digests), "models", force=True, evaluating="serving cost")
    wanted = evaluation.latency_requests
    requests = [inputs for _, inputs, _ in islice(bench.family.requests(bench.dataset, TEST_SPLIT), wanted)]
    folders = {digest: bench.folders[digest] for digest in digests.values()}
    timings = measure(
        folders,
        requests,
        wanted,
        enough=lambda so_far: _decides_costs(bench, _costs(bench, digests, so_far)),
        rounds=_ROUNDS,
    )
    costs = _costs(bench, digests, timings)
    models = {
        name: {**_summary(bench, digest, timings), "load_seconds": round(timings[digest].load_seconds, 3)}
        for name, digest in digests.items()
    }
    asked = int(timings[digests[CANDIDATE]].request_ms.size)
    return {**costs, "performance": {"machine": machine(), "requests": asked, "models": models}}


def _costs(bench: Bench, digests: Mapping[str, str], timings: Mapping[str, Timings]) -> dict[str, Any]:
    candidate = digests[CANDIDATE]

    def comparison(digest: str) -> dict[str, Any]:
        both = (_size(bench, candidate), _size(bench, digest))
        found = cost_comparison(timings[candidate], timings[digest], both, **bench.bootstrap)
        return {metric: _difference(value) for metric, value in found.items()}

    return {
        "summary": _summary(bench, candidate, timings),
        "comparisons": {name: comparison(digest) for name, digest in digests.items() if name != CANDIDATE},
    }


def _summary(bench: Bench, digest: str, timings: Mapping[str, Timings]) -> dict[str, Any]:
    confidence = bench.context.document.model_spec.evaluation.confidence
    costs = cost_summary(timings[digest], _size(bench, digest), confidence)
    return {metric: value.to_json() for metric, value in costs.items()}


def _size(bench: Bench, digest: str) -> int:
    return read_package(bench.folders[digest]).size


def _decides_costs(bench: Bench, costs: Mapping[str, Any]) -> bool:
    """Whether every blocking gate on a cost has a plain answer."""
    evaluation, champion = bench.context.document.model_spec.evaluation, bench.context.document.inputs.get("champion")
    gates = [gate for gate in evaluation.gates if gate.metric in COST_METRICS and gate.split == TEST_SPLIT]
    given = GateInput.model_validate(
        {
            "gates": gates,
            "confidence": evaluation.confidence,
            "champion": champion["version"] if champion else None,
            "splits": {TEST_SPLIT: costs},
        }
    )
    results = [judge_gate(gate, given) for gate in gates]
    return not any(result.blocks and result.verdict is Verdict.INCONCLUSIVE for result in results)


def _place(bench: Bench, name: str, split: str) -> Place:
    document = bench.context.document
    return Place(document.family, bench.dataset.digest, bench.digests[name], split, document.code_version)


def _signature(bench: Bench) -> dict[str, dict[str, str]]:
    """What goes into the candidate and what comes out: a change of it is a new major version."""
    runtime = bench.runtime(CANDIDATE)
    return {"inputs": dict(runtime.inputs), "outputs": dict(runtime.outputs)}


def _reference_record(test: Mapping[str, Any], digests: Mapping[str, str], name: str) -> dict[str, Any]:
    return {"digest": digests[name], "metrics": test["references"][name]}


def _difference(interval: Interval) -> dict[str, Any]:
    record = interval.to_json()
    return {"difference": record.pop("value"), **record}


def _is_share(values: Any) -> bool:
    return values is None or (bool((values >= 0.0).all()) and bool((values <= 1.0).all()))
