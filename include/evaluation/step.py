"""The step `evaluate`: candidate against champion, baselines and the untrained model, on the same test examples.

Quality comes per example from the packages as they would serve, cost from the serving runtime in processes of its own,
the rest (changed requests, groups, known cases, what the package holds) from the candidate alone. The report holds
everything, with intervals; the step's outputs hold what gates and the registry need.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from include.data.datasets import open_dataset
from include.errors import DataError, UserError
from include.evaluation.adjust import UNTRAINED
from include.evaluation.bench import Bench, difference
from include.evaluation.card import model_card
from include.evaluation.contenders import CANDIDATE, contenders, fetch_all
from include.evaluation.costing import measure_costs
from include.evaluation.documents import keep
from include.evaluation.examples import (
    aligned,
    answered_numbers,
    check_examples,
    load_examples,
    save_answers,
    save_examples,
)
from include.evaluation.further import look_further, personal_data
from include.evaluation.gates import TEST_SPLIT
from include.evaluation.intervals import mean_interval, paired_interval
from include.evaluation.selective import Selective, find_threshold
from include.evaluation.slices import check_slices, slice_report
from include.families.contract import Examples, load_code
from include.serving.package import read_package
from include.steps.entry import StepContext

_SHARE = (0.0, 1.0)


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
    costs = measure_costs(bench)
    test = splits[TEST_SPLIT]
    selective = _selective(bench, answers_key)
    further = look_further(bench, _outcomes(bench, CANDIDATE, TEST_SPLIT))
    quality = list(test["summary"])
    test["summary"] |= {found.metric: found.measured() for found in selective}
    test["summary"] |= further.summary
    test["comparisons"] |= further.comparisons
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
        "quality": quality,
        "splits": splits,
        "performance": costs["performance"],
        "selective": [found.to_json() for found in selective],
        **further.report,
        "answers_key": answers_key,
        "confidence": spec.evaluation.confidence,
        "resamples": spec.evaluation.resamples,
        "seed": bench.seed,
        "code_version": document.code_version,
    }
    personal_data(bench, report, further)
    report |= further.report
    test["summary"] |= further.summary
    kept = keep(context.store, spec.family, "report.json", json.dumps(report, indent=1, allow_nan=False).encode())
    card = keep(context.store, spec.family, "model_card.md", model_card(spec, report).encode())
    return {
        "report_key": kept.key,
        "report_digest": kept.digest,
        "card_key": card.key,
        "card_digest": card.digest,
        "answers_key": answers_key,
        "champion": inputs.get("champion"),
        "summary": test["summary"],
        "comparisons": test["comparisons"],
        "unknown": further.unknown,
        "cases": further.report["cases"],
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
            metric: difference(paired_interval(values, metrics[name][metric], bounds=bounds[metric], **bench.bootstrap))
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
    asked = bench.asked.slices
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
        "examples": {name: bench.place(name, split).examples_key for name in bench.digests},
    }


def _outcomes(bench: Bench, name: str, split: str) -> Examples:
    """Outcomes per example of one contender: read back where they are known, computed where not."""
    place, store = bench.place(name, split), bench.context.store
    stored = load_examples(store, place)
    if stored is not None:
        return stored
    names = list(bench.digests)
    bench.context.progress(names.index(name), len(names), "models", force=True, evaluating=name, split=split)
    found = check_examples(bench.family.evaluate(bench.runtime(name), bench.dataset, split), f"{name} on {split}")
    save_examples(store, place, found)
    return found


def _save_answers(bench: Bench) -> str:
    place = bench.place(CANDIDATE)
    return save_answers(bench.context.store, place, bench.family, bench.runtime(CANDIDATE), bench.dataset)


def _selective(bench: Bench, answers_key: str) -> list[Selective]:
    """The thresholds that hold the promised accuracies of the candidate on the test split."""
    asked = bench.asked.selective
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


def _signature(bench: Bench) -> dict[str, dict[str, str]]:
    """What goes into the candidate and what comes out: a change of it is a new major version."""
    runtime = bench.runtime(CANDIDATE)
    return {"inputs": dict(runtime.inputs), "outputs": dict(runtime.outputs)}


def _reference_record(test: Mapping[str, Any], digests: Mapping[str, str], name: str) -> dict[str, Any]:
    return {"digest": digests[name], "metrics": test["references"][name]}


def _is_share(values: Any) -> bool:
    return values is None or (bool((values >= 0.0).all()) and bool((values <= 1.0).all()))
