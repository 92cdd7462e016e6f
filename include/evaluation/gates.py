"""Quality gates: a measured metric with its interval against what the spec asks for. Pure.

A gate asks whether a number lies in a region: above a threshold, or not below the champion by more than a margin. What
is known of the number is an interval, so there are three answers:

* PASS: the whole interval lies in the region;
* FAIL: the whole interval lies outside of it;
* INCONCLUSIVE: the interval reaches across the edge. Then the gate says how many examples would decide it, if the value
  and the spread stay what they are.

A number without spread (the size of a package) has an interval of one point and always gets a plain answer. For a
comparison the number is the paired difference candidate - reference, and `margin` always loosens the gate: `gte` and
`gt` then ask for a difference above `-margin`, `lte` and `lt` for one below `margin`, and `eq` for one within `margin`
both ways. A negative margin asks for that much improvement.

Known cases are a gate of their own: each must come out right, and a wrong one is named. A metric that could not be
measured (personal data without the library that finds it) is INCONCLUSIVE with the reason.

The overall verdict looks at the gates whose action is `fail`: one FAIL makes FAIL, else one INCONCLUSIVE makes
INCONCLUSIVE. INCONCLUSIVE never ships.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from statistics import NormalDist
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from include.errors import UserError
from include.spec.judging import KNOWN_CASES, GateAction, GateSpec, Operator

CHAMPION = "champion"
TEST_SPLIT = "test"
_NORMAL = NormalDist()
_SHOWN_CASES = 5
_UPWARDS = frozenset({Operator.GT, Operator.GTE})
_WORDS = {
    Operator.GT: "above",
    Operator.GTE: "at least",
    Operator.LT: "below",
    Operator.LTE: "at most",
    Operator.EQ: "equal to",
}


class GateError(UserError):
    """A gate asks for something that was not measured."""


class Verdict(str, Enum):
    """Answer of a gate, and of all gates together."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class Measured(BaseModel):
    """A metric, or a difference of two, with its interval; `sd` is the standard deviation of one example."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    value: float
    low: float
    high: float
    n: int = Field(ge=1)
    sd: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Measured:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"the value {self.value} lies outside of its interval [{self.low}, {self.high}]")
        return self


class Comparison(BaseModel):
    """Paired difference candidate - reference of one metric."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    difference: float
    low: float
    high: float
    n: int = Field(ge=1)
    sd: float | None = None

    @property
    def measured(self) -> Measured:
        return Measured(value=self.difference, low=self.low, high=self.high, n=self.n, sd=self.sd)


class SplitResult(BaseModel):
    """What was measured on one split; `unknown` says of a metric why it could not be."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    summary: dict[str, Measured] = {}
    comparisons: dict[str, dict[str, Comparison]] = {}
    unknown: dict[str, str] = {}


class WrongCase(BaseModel):
    """A known case that did not come out right."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    asks: str
    found: str


class CasesResult(BaseModel):
    """What became of the known cases."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    n: int = Field(ge=0)
    failed: list[WrongCase] = []


class GateInput(BaseModel):
    """Everything that the verdict depends on.

    Attributes:
        champion: Version of the champion that serves, None while there is none.
        splits: Split -> what was measured on it.
        cases: What became of the known cases; None where there are none.
        cases_action: What a wrong one does.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    gates: list[GateSpec]
    confidence: float
    champion: str | None = None
    splits: dict[str, SplitResult]
    cases: CasesResult | None = None
    cases_action: GateAction = GateAction.FAIL


@dataclass(frozen=True)
class GateResult:
    """One gate's answer.

    Attributes:
        value, low, high, n: What was measured; None where the gate did not apply.
        n_needed: For INCONCLUSIVE, examples that would decide it; None where no number would.
        blocks: Whether this answer keeps the candidate from shipping.
        why: The answer in one sentence.
    """

    name: str
    metric: str
    split: str
    asks: str
    action: str
    verdict: Verdict
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    n_needed: int | None
    blocks: bool
    why: str

    def to_json(self) -> dict[str, Any]:
        """JSON-serialisable record."""
        return {**asdict(self), "verdict": self.verdict.value}


@dataclass(frozen=True)
class Region:
    """The numbers that satisfy a gate: from `low` to `high`, with or without the ends."""

    low: float
    high: float
    closed: bool

    def judge(self, measured: Measured) -> Verdict:
        """Where the interval of `measured` lies: inside, outside, or across an edge."""
        if self._contains(measured.low) and self._contains(measured.high):
            return Verdict.PASS
        if self.closed:
            outside = measured.high < self.low or measured.low > self.high
        else:
            outside = measured.high <= self.low or measured.low >= self.high
        return Verdict.FAIL if outside else Verdict.INCONCLUSIVE

    def gap(self, value: float) -> float:
        """Distance from `value` to the nearest edge."""
        return min(abs(value - edge) for edge in (self.low, self.high) if math.isfinite(edge))

    def _contains(self, value: float) -> bool:
        return self.low <= value <= self.high if self.closed else self.low < value < self.high


def decide(record: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict on a candidate, from a stored `GateInput` record.

    Returns:
        `verdict`, `gates` (a record per gate), `why` (sentences, what blocks first), `n_needed` (examples that would
        decide all inconclusive gates that block, or None).

    Raises:
        GateError: A gate names a metric, split or reference that was not measured.
    """
    given = GateInput.model_validate(record)
    results = [judge_gate(gate, given) for gate in given.gates]
    if given.cases is not None:
        results.append(_judge_cases(given.cases, given.cases_action))
    undecided = [result.n_needed for result in results if result.blocks and result.verdict is Verdict.INCONCLUSIVE]
    needed = [n for n in undecided if n is not None]
    ordered = sorted(results, key=lambda result: not result.blocks)
    return {
        "verdict": overall(results).value,
        "gates": [result.to_json() for result in results],
        "why": [result.why for result in ordered],
        "n_needed": max(needed) if needed and len(needed) == len(undecided) else None,
    }


def overall(results: list[GateResult]) -> Verdict:
    """One verdict for all gates."""
    blocking = {result.verdict for result in results if result.blocks}
    if Verdict.FAIL in blocking:
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE if blocking else Verdict.PASS


def judge_gate(gate: GateSpec, given: GateInput) -> GateResult:
    """One gate's answer; see `decide`."""
    if gate.reference == CHAMPION and given.champion is None:
        why = f"{gate.name}: no champion serves yet, so there is nothing to compare {gate.metric} with: PASS"
        return _result(gate, Verdict.PASS, None, None, why)
    unknown = given.splits[gate.split].unknown.get(gate.metric) if gate.split in given.splits else None
    if unknown is not None:
        why = f"{gate.name}: {gate.metric} is not known: {unknown}: {Verdict.INCONCLUSIVE.value}"
        return _result(gate, Verdict.INCONCLUSIVE, None, None, why)
    measured = _measured(gate, given)
    region = region_of(gate)
    verdict = region.judge(measured)
    needed = _n_needed(region, measured, given.confidence) if verdict is Verdict.INCONCLUSIVE else None
    return _result(gate, verdict, measured, needed, _sentence(gate, measured, verdict, needed))


def region_of(gate: GateSpec) -> Region:
    """The values (or differences) that satisfy `gate`."""
    at = gate.threshold if gate.threshold is not None else 0.0
    if gate.operator is Operator.EQ:
        if gate.margin < 0:
            raise GateError(f"gate {gate.name}: `eq` cannot have a negative margin")
        slack = gate.margin or 1e-9 * max(1.0, abs(at))
        return Region(at - slack, at + slack, closed=True)
    closed = gate.operator in {Operator.GTE, Operator.LTE}
    if gate.operator in _UPWARDS:
        return Region(at - gate.margin, math.inf, closed)
    return Region(-math.inf, at + gate.margin, closed)


def _measured(gate: GateSpec, given: GateInput) -> Measured:
    split = given.splits.get(gate.split)
    if split is None:
        raise _missing(gate, f"split {gate.split!r}", given.splits)
    if gate.reference is None:
        if gate.metric not in split.summary:
            raise _missing(gate, f"metric {gate.metric!r}", split.summary)
        return split.summary[gate.metric]
    reference = given.champion and CHAMPION if gate.reference == CHAMPION else gate.reference
    if reference not in split.comparisons:
        raise _missing(gate, f"reference {gate.reference!r}", split.comparisons)
    if gate.metric not in split.comparisons[reference]:
        raise _missing(gate, f"comparison of {gate.metric!r} with {gate.reference}", split.comparisons[reference])
    return split.comparisons[reference][gate.metric].measured


def _missing(gate: GateSpec, what: str, known: Mapping[str, Any]) -> GateError:
    return GateError(
        f"gate {gate.name} asks for {what}, which was not measured",
        where=f"evaluation.gates.{gate.name}",
        hint=f"measured: {', '.join(sorted(known)) or '(nothing)'}",
    )


def _n_needed(region: Region, measured: Measured, confidence: float) -> int | None:
    """Examples at which the interval, shrinking with the square root of n, no longer reaches the edge."""
    gap = region.gap(measured.value)
    if gap <= 1e-12 * max(1.0, abs(measured.value)):
        return None
    if measured.sd:
        z = _NORMAL.inv_cdf(0.5 + confidence / 2.0)
        needed = (z * measured.sd / gap) ** 2
    else:
        needed = measured.n * (max(measured.value - measured.low, measured.high - measured.value) / gap) ** 2
    return max(math.ceil(needed), measured.n + 1)


def _result(gate: GateSpec, verdict: Verdict, measured: Measured | None, needed: int | None, why: str) -> GateResult:
    return GateResult(
        name=gate.name,
        metric=gate.metric,
        split=gate.split,
        asks=_asks(gate),
        action=gate.action.value,
        verdict=verdict,
        value=measured.value if measured else None,
        low=measured.low if measured else None,
        high=measured.high if measured else None,
        n=measured.n if measured else None,
        n_needed=needed,
        blocks=gate.action is GateAction.FAIL and verdict is not Verdict.PASS,
        why=why,
    )


def _judge_cases(cases: CasesResult, action: GateAction) -> GateResult:
    wrong = len(cases.failed)
    verdict = Verdict.FAIL if wrong else Verdict.PASS
    share = 1.0 - wrong / cases.n if cases.n else 1.0
    shown = "; ".join(f"{case.id} ({case.found}; asked for {case.asks})" for case in cases.failed[:_SHOWN_CASES])
    more = f"; and {wrong - _SHOWN_CASES} more" if wrong > _SHOWN_CASES else ""
    said = f"{wrong} of {cases.n} are wrong: {shown}{more}" if wrong else f"all {cases.n} come out right"
    return GateResult(
        name=KNOWN_CASES,
        metric=KNOWN_CASES,
        split=TEST_SPLIT,
        asks="every one of them right",
        action=action.value,
        verdict=verdict,
        value=share,
        low=share,
        high=share,
        n=max(cases.n, 1),
        n_needed=None,
        blocks=action is GateAction.FAIL and wrong > 0,
        why=f"{KNOWN_CASES}: {said}: {verdict.value}",
    )


def _asks(gate: GateSpec) -> str:
    words = _WORDS[gate.operator]
    if gate.reference is None:
        return f"{words} {gate.threshold:g}"
    if not gate.margin:
        return f"{words} {gate.reference}'s"
    if gate.operator is Operator.EQ:
        return f"{words} {gate.reference}'s, give or take {gate.margin:g}"
    loosens = "minus" if gate.operator in _UPWARDS else "plus"
    tightens = "plus" if gate.operator in _UPWARDS else "minus"
    return f"{words} {gate.reference}'s {loosens if gate.margin > 0 else tightens} {abs(gate.margin):g}"


def _sentence(gate: GateSpec, measured: Measured, verdict: Verdict, needed: int | None) -> str:
    value, low, high = (f"{number:.4g}" for number in (measured.value, measured.low, measured.high))
    interval = f" [{low}, {high}], n = {measured.n}" if measured.low < measured.high else ""
    subject = gate.metric if gate.reference is None else f"the difference to {gate.reference}'s {gate.metric}"
    sentence = f"{gate.name}: {subject} is {value}{interval}; asked for {gate.metric} {_asks(gate)}: {verdict.value}"
    if verdict is not Verdict.INCONCLUSIVE:
        return sentence
    if needed is None:
        return f"{sentence}; the value lies on the line, more examples would not decide it"
    return f"{sentence}; about {needed} examples would decide it"
