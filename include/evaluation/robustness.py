"""What changed requests do to the answers: quality on them, in pairs with the same requests unchanged.

Quality is what the runtime's `label` says of an answer, as for live traffic. An answer that did not come counts as the
worst one: 0 (or 1) of a share, otherwise the worst value that was seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from include.errors import DataError, UserError
from include.evaluation.asking import Answer, Example, Outcome, ask
from include.evaluation.changes import changed
from include.evaluation.examples import numbers_of
from include.evaluation.intervals import Floats, Interval, mean_interval, paired_interval
from include.families.contract import ModelRuntime
from include.spec.probing import HANDLED, SAME_TRUTH, UNDER, Change, OutOfScope

_SHARE = (0.0, 1.0)
_SHOWN = 3


@dataclass
class Probed:
    """What changed requests showed.

    Attributes:
        summary: Metric -> interval.
        against_clean: Metric -> paired difference, changed minus unchanged.
        changes: Name of the change -> what it did, for the report.
    """

    summary: dict[str, Interval] = field(default_factory=dict)
    against_clean: dict[str, Interval] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A model with the examples that it answered unchanged.

    Attributes:
        quality: Metric -> value per example, shape (n,), of the answers to the unchanged requests.
        lower_is_better: Metrics such as errors.
        bootstrap: Arguments of the intervals.
    """

    runtime: ModelRuntime
    examples: Sequence[Example]
    answers: Sequence[Answer]
    quality: Mapping[str, Floats]
    lower_is_better: Collection[str]
    bootstrap: Mapping[str, Any]

    def bounds(self, metric: str) -> tuple[float, float] | None:
        """0 and 1 for a share."""
        values = self.quality[metric]
        return _SHARE if values.min() >= 0.0 and values.max() <= 1.0 else None


def ask_clean(
    runtime: ModelRuntime, examples: Sequence[Example], lower_is_better: Collection[str], bootstrap: Mapping[str, Any]
) -> Asked:
    """Asks the unchanged requests.

    Raises:
        DataError: The model does not answer one of them; then there is nothing to compare with.
    """
    answers = ask(runtime, [example.request for example in examples])
    for example, answer in zip(examples, answers, strict=True):
        if answer.outcome is not Outcome.ANSWERED:
            raise DataError(
                f"the model does not answer example {example.id} of the test split: {answer.why}",
                where="evaluation.robustness",
                hint="it would not answer a client either; mend the family's runtime or its `requests`",
            )
    labels = [runtime.label(answer.record, example.truth) for example, answer in zip(examples, answers, strict=True)]
    metrics = sorted(set.intersection(*(set(label) for label in labels))) if labels else []
    quality = {name: np.array([label[name] for label in labels], dtype=np.float64) for name in metrics}
    return Asked(runtime, examples, answers, quality, lower_is_better, bootstrap)


def probe(asked: Asked, changes: Sequence[Change]) -> Probed:
    """Asks again with every change.

    Raises:
        UserError: The spec names an input or a number that there is not, or a request that the model does not take.
    """
    found = Probed()
    for change in changes:
        if isinstance(change, OutOfScope):
            _out_of_scope(asked, change, found)
        else:
            _changed(asked, change, found)
    return found


def quality_of(asked: Asked, answers: Sequence[Answer]) -> dict[str, Floats]:
    """Metric -> value per example; what was not answered counts as the worst."""
    labels = [
        asked.runtime.label(answer.record, example.truth) if answer.outcome is Outcome.ANSWERED else {}
        for example, answer in zip(asked.examples, answers, strict=True)
    ]
    return {
        metric: np.array([label.get(metric, _worst(asked, metric, labels)) for label in labels], dtype=np.float64)
        for metric in asked.quality
    }


def _worst(asked: Asked, metric: str, labels: Sequence[Mapping[str, float]]) -> float:
    lower = metric in asked.lower_is_better
    bounds = asked.bounds(metric)
    if bounds is not None:
        return bounds[1] if lower else bounds[0]
    seen = [*asked.quality[metric].tolist(), *(label[metric] for label in labels if metric in label)]
    return float(max(seen) if lower else min(seen))


def _changed(asked: Asked, change: Change, found: Probed) -> None:
    kinds = asked.runtime.inputs
    requests = [changed(change, example.request, kinds, example.id) for example in asked.examples]
    answers = ask(asked.runtime, requests)
    _handled(asked, change, answers, found)
    altered = sum(new != dict(example.request) for new, example in zip(requests, asked.examples, strict=True))
    found.changes[change.name] |= {"altered": altered}
    if not isinstance(change, SAME_TRUTH):
        return
    for metric, values in quality_of(asked, answers).items():
        name, clean, bounds = f"{metric}{UNDER}{change.name}", asked.quality[metric], asked.bounds(metric)
        found.summary[name] = mean_interval(values, bounds=bounds, **asked.bootstrap)
        found.against_clean[name] = paired_interval(values, clean, bounds=bounds, **asked.bootstrap)


def _handled(asked: Asked, change: Change, answers: Sequence[Answer], found: Probed) -> None:
    outcomes = np.array([float(answer.outcome is not Outcome.FAILED) for answer in answers])
    found.summary[f"{HANDLED}{UNDER}{change.name}"] = mean_interval(outcomes, bounds=_SHARE, **asked.bootstrap)
    found.changes[change.name] = {
        "change": change.model_dump(mode="json", exclude={"requests"}),
        "n": len(answers),
        **{outcome.value: sum(answer.outcome is outcome for answer in answers) for outcome in Outcome},
        "failures": [answer.why for answer in answers if answer.outcome is Outcome.FAILED][:_SHOWN],
    }


def _out_of_scope(asked: Asked, change: OutOfScope, found: Probed) -> None:
    """A refusal is as good as being unsure."""
    _must_be_askable(change, asked.runtime)
    answers = ask(asked.runtime, change.requests)
    _handled(asked, change, answers, found)
    known = np.sort([_confidence(answer, change) for answer in asked.answers])
    strange = np.array([_confidence(answer, change) for answer in answers])
    above = known.size - np.searchsorted(known, strange, side="right")
    level = above + 0.5 * (np.searchsorted(known, strange, side="right") - np.searchsorted(known, strange, side="left"))
    measured = {"unsure": (strange < change.below).astype(np.float64), "told_apart": level / known.size}
    for name, values in measured.items():
        found.summary[f"{name}{UNDER}{change.name}"] = mean_interval(values, bounds=_SHARE, **asked.bootstrap)
    surest = sorted(zip(strange.tolist(), change.requests, strict=True), key=lambda pair: -pair[0])[:_SHOWN]
    found.changes[change.name]["surest"] = [
        {"confidence": round(sure, 4), "request": request} for sure, request in surest if sure >= change.below
    ]


def _must_be_askable(change: OutOfScope, runtime: ModelRuntime) -> None:
    for number, request in enumerate(change.requests):
        if set(request) != set(runtime.inputs):
            raise UserError(
                f"request {number} does not hold the model's inputs",
                where=f"evaluation.robustness.{change.name}.requests",
                hint=f"the model takes: {', '.join(runtime.inputs)}",
            )


def _confidence(answer: Answer, change: OutOfScope) -> float:
    if answer.outcome is not Outcome.ANSWERED:
        return 0.0 if answer.outcome is Outcome.REFUSED else 1.0  # falling over is no way of being unsure
    number = numbers_of(answer.record).get(change.confidence)
    if number is None:
        raise UserError(
            f"the model's answers hold no number {change.confidence!r}",
            where=f"evaluation.robustness.{change.name}.confidence",
            hint=f"numbers of an answer: {', '.join(sorted(numbers_of(answer.record))) or '(none)'}",
        )
    return number
