"""The spec of how a candidate is judged: gates, intervals, and answering only when sure."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import Field, model_validator

from include.spec.base import Name, SpecModel
from include.spec.probing import CLEAN, UNDER, FairnessSpec, PersonalDataSpec, RobustnessSpec

#: The gate that no spec declares: every known case must come out right.
KNOWN_CASES = "known_cases"


class Operator(str, Enum):
    """How a gate compares."""

    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    EQ = "eq"


class GateAction(str, Enum):
    """What a gate that is met or not met does to the verdict.

    `pass`: the gate is recorded and never blocks; `warn`: not met is shown and does not block; `fail`: not met blocks.
    """

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


class GateSpec(SpecModel):
    """One quality gate.

    A gate holds `metric` of the candidate either against `threshold`, or against the same metric of `reference`
    ("champion", "zero_shot", "clean" for metrics of changed requests, or a baseline's name) with a `margin`: `gte
    champion margin 0.02` means "not worse by more than 0.02", `gt bm25` means "better than". Comparisons use the paired
    difference on the same examples.
    """

    name: Name
    metric: Name
    operator: Operator
    threshold: float | None = None
    reference: Name | None = None
    margin: float = 0.0
    action: GateAction = GateAction.FAIL
    split: Name = "test"

    @model_validator(mode="after")
    def _one_target(self) -> GateSpec:
        if (self.threshold is None) == (self.reference is None):
            raise ValueError("give either `threshold` or `reference`, and not both")
        if self.reference is None and self.margin:
            raise ValueError("`margin` goes with `reference`; move the threshold instead")
        return self


class SelectiveSpec(SpecModel):
    """Answering only when sure enough: which accuracy is promised on what is answered; see `evaluation.selective`.

    Each target gives a metric that gates can ask for: the share of questions that can be answered while the promise
    holds, such as `coverage_at_99`.

    Attributes:
        confidence: Number of the answer record that says how sure the model is.
        correct: Metric that says whether an answer was right: 0 or 1, or a share.
        targets: Means of `correct` that must hold on what is answered.
        delta: Chance that a promise does not hold.
    """

    confidence: Name = "confidence"
    correct: Name
    targets: list[Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(min_length=1)
    delta: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05


class EvaluationSpec(SpecModel):
    """How the candidate is judged: gates, the confidence of intervals, and how a failed gate is answered.

    Attributes:
        confidence: Confidence level of every interval.
        resamples: Bootstrap resamples per interval.
        max_attempts: Sweep -> train -> evaluate rounds before a failing candidate is archived.
        latency_requests: Requests for the latency measurement, per model, interleaved.
        selective: Accuracy that is promised on what is answered; None promises none.
        robustness: How requests are changed to see what that does; None changes none.
        fairness: Which groups should fare alike; None compares none.
        cases: What a known case that is answered wrong does (see `evaluation.cases`): `fail` blocks the candidate.
        personal_data: Looks for personal data in what ships; None does not look.
    """

    gates: list[GateSpec] = Field(min_length=1)
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 2000
    max_attempts: Annotated[int, Field(ge=1, le=5)] = 2
    latency_requests: Annotated[int, Field(ge=20)] = 200
    slices: list[Name] = []
    selective: SelectiveSpec | None = None
    robustness: RobustnessSpec | None = None
    fairness: FairnessSpec | None = None
    cases: GateAction = GateAction.FAIL
    personal_data: PersonalDataSpec | None = None

    @model_validator(mode="after")
    def _unique_names(self) -> EvaluationSpec:
        names = [KNOWN_CASES, *(gate.name for gate in self.gates)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"gate names must differ; repeated: {', '.join(repeated)}")
        return self

    @model_validator(mode="after")
    def _gates_know_the_changes(self) -> EvaluationSpec:
        known = {change.name for change in self.robustness.changes} if self.robustness else set()
        for gate in self.gates:
            _, under, name = gate.metric.rpartition(UNDER)
            if gate.reference == CLEAN and not under:
                raise ValueError(f"gate {gate.name}: `{CLEAN}` goes with a metric such as hit_at_1{UNDER}typos")
            if under and name not in known:
                raise ValueError(f"gate {gate.name}: `robustness` has no change {name!r}")
        return self
