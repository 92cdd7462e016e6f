"""What the candidate is asked beyond the test split: changed requests, groups, known cases, and what its package holds.

The candidate alone is asked, and no more of the test split than the gates need.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from include.errors import UserError
from include.evaluation import advisories, personal
from include.evaluation.asking import sample
from include.evaluation.bench import Bench, difference
from include.evaluation.cases import check_cases, pinned_cases
from include.evaluation.contenders import CANDIDATE
from include.evaluation.drivers import importance, told_by_answers
from include.evaluation.fairness import find_gap
from include.evaluation.gates import TEST_SPLIT, GateInput, Verdict, judge_gate
from include.evaluation.intervals import Interval, exact
from include.evaluation.robustness import Asked, ask_clean, probe
from include.evaluation.slices import check_slices
from include.families.contract import Examples
from include.serving.scan import scan
from include.spec.probing import CLEAN

_Record = dict[str, Any]
_SHARE = (0.0, 1.0)
#: So many times more examples are asked where a gate stays open.
_MORE = 3


@dataclass
class Further:
    """What was found.

    Attributes:
        summary: Metric -> interval record, for gates.
        comparisons: Reference -> metric -> difference record.
        unknown: Metric -> why it could not be measured.
        report: Parts of the report.
    """

    summary: dict[str, _Record] = field(default_factory=dict)
    comparisons: dict[str, dict[str, _Record]] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    report: _Record = field(default_factory=dict)


def look_further(bench: Bench, examples: Examples) -> Further:
    """Everything that the spec asks for; `examples` are the candidate's outcomes on the test split.

    Raises:
        UserError: The spec asks for a slice, a metric or an input that there is not.
        DataError: A known case does not fit the family, or the model does not answer the test split's own requests.
        UnsafeFile: The package holds what may not be loaded.
    """
    found = Further()
    bench.context.progress(len(bench.digests), len(bench.digests), "models", force=True, evaluating="further questions")
    found.report["artifact"] = scan(bench.folders[bench.digests[CANDIDATE]])
    _ask_differently(bench, found)
    _compare_groups(bench, examples, found)
    _known_cases(bench, found)
    _dependencies(bench, found)
    return found


def personal_data(bench: Bench, report: _Record, found: Further) -> None:
    """Adds what personal data the package, the card and the known cases hold, where the spec asks for it.

    Of the card that is what comes from people and data; its figures look like telephone numbers and are none.
    """
    asked = bench.asked.personal_data
    if asked is None:
        return
    if why := personal.cannot_look():
        found.unknown[personal.METRIC] = why
        found.report[personal.METRIC] = {"unknown": why}
        return
    cases = bench.context.document.inputs.get("cases")
    texts: Iterable[tuple[str, str]] = chain(
        personal.package_texts(bench.folders[bench.digests[CANDIDATE]]),
        _card_texts(bench, report),
        personal.lines_of(bench.context.store.get(cases).decode(), "known cases") if cases else (),
    )
    record = personal.find_personal_data(asked, texts)
    found.report[personal.METRIC] = record
    found.summary[personal.METRIC] = exact(float(record["count"])).to_json()


def _card_texts(bench: Bench, report: _Record) -> Iterable[tuple[str, str]]:
    spec = bench.context.document.model_spec
    yield from (("model card", text) for text in (spec.title, spec.description, spec.owner.team))
    for name, slices in report["splits"][TEST_SPLIT]["slices"].items():
        yield from ((f"model card, groups by {name}", str(group)) for group in slices["groups"])
    for part in ("robustness", "interpretability"):
        yield from personal.strings_of(report.get(part) or {}, f"report, {part}")


def _ask_differently(bench: Bench, found: Further) -> None:
    asked = bench.asked.robustness
    if asked is None:
        return
    size = asked.examples
    while True:
        clean = _clean(bench, size)
        probed = probe(clean, asked.changes)
        found.summary |= {metric: interval.to_json() for metric, interval in probed.summary.items()}
        found.comparisons[CLEAN] = {metric: difference(interval) for metric, interval in probed.against_clean.items()}
        if len(clean.examples) < size or _decided(bench, found):
            break
        size *= _MORE
    found.report["robustness"] = {
        "n": len(clean.examples),
        "clean": {metric: float(values.mean()) for metric, values in clean.quality.items()},
        "changes": probed.changes,
        "metrics": {metric: interval.to_json() for metric, interval in probed.summary.items()},
        "against_clean": found.comparisons[CLEAN],
    }
    found.report["interpretability"] = {
        "importance": importance(clean, bench.seed) if asked.importance else {},
        "answers": told_by_answers(clean),
    }


def _decided(bench: Bench, found: Further) -> bool:
    """Whether every blocking gate on changed requests has a plain answer; if not, more of the split is asked."""
    gates = [gate for gate in bench.asked.gates if gate.split == TEST_SPLIT and gate.metric in found.summary]
    measured = {"summary": found.summary, "comparisons": found.comparisons}
    given = GateInput.model_validate(
        {"gates": gates, "confidence": bench.asked.confidence, "splits": {TEST_SPLIT: measured}}
    )
    ours = [gate for gate in gates if gate.reference in (None, CLEAN)]
    results = [judge_gate(gate, given) for gate in ours]
    return not any(result.blocks and result.verdict is Verdict.INCONCLUSIVE for result in results)


def _clean(bench: Bench, size: int) -> Asked:
    examples = sample(bench.family, bench.dataset, TEST_SPLIT, size)
    return ask_clean(bench.runtime(CANDIDATE), examples, bench.lower_is_better, bench.bootstrap)


def _compare_groups(bench: Bench, examples: Examples, found: Further) -> None:
    asked = bench.asked.fairness
    if asked is None:
        return
    check_slices(asked.slices, examples.slices, where="evaluation.fairness.slices")
    if unknown := sorted(set(asked.metrics) - set(examples.metrics)):
        raise UserError(
            f"there is no metric {unknown[0]!r}",
            where="evaluation.fairness.metrics",
            hint=f"the family gives: {', '.join(sorted(examples.metrics))}",
        )
    report: _Record = {}
    for name in asked.slices:
        report[name] = {}
        for metric in asked.metrics or sorted(examples.metrics):
            values = examples.metrics[metric]
            gap = find_gap(
                values,
                examples.slices[name],
                smallest=asked.smallest,
                lower_is_better=metric in bench.lower_is_better,
                bounds=_SHARE if values.min() >= 0.0 and values.max() <= 1.0 else None,
                **bench.bootstrap,
            )
            measured: dict[str, Interval] = {} if gap is None else {"gap": gap.gap, "worst": gap.worst}
            for kind in ("gap", "worst"):
                if kind in measured:
                    found.summary[f"{metric}_{kind}_{name}"] = measured[kind].to_json()
                else:
                    why = f"fewer than two groups of {name} have {asked.smallest} examples"
                    found.unknown[f"{metric}_{kind}_{name}"] = why
            if gap is not None:
                report[name][metric] = gap.to_json()
    found.report["fairness"] = report


def _known_cases(bench: Bench, found: Further) -> None:
    key = bench.context.document.inputs.get("cases")
    if key is None:
        found.report["cases"] = None
        return
    cases = pinned_cases(bench.context.store, key)
    found.report["cases"] = {"key": key, **check_cases(bench.runtime(CANDIDATE), cases)}


def _dependencies(bench: Bench, found: Further) -> None:
    audit = advisories.last_audit(bench.context.store)
    found.report["dependencies"] = audit
    if audit["status"] == "audited":
        found.summary[advisories.METRIC] = exact(float(len(audit["vulnerable"]))).to_json()
    else:
        found.unknown[advisories.METRIC] = audit["why"]
