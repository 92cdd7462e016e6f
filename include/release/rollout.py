"""Is a stage of a rollout passed? A judgement of what live traffic showed. Pure.

Three things are checked: errors, latency and labelled quality. Each check passes, fails, or waits for more traffic:

* *errors*: fails as soon as the candidate's error rate is surely above the limit, passes while the observed rate is
  not;
* *latency*: passes when the candidate's p95 is at or under the floor, or under the allowed multiple of the champion's.
  A tail above that may be a moment's load, so it waits, and fails when the stage's time is over; when even the median
  is above it, half of the requests are too slow and it fails at once, or, where the candidate has all traffic and no
  champion beside it shows whether the machine is slow for everyone, after half a minute;
* *quality*: fails when the candidate is surely worse than the champion by more than the tolerated drop. It passes when
  it is surely not, or when the stage's minimum of labels is there and the observed drop is within the tolerance.

A fourth, the error budget of the whole rollout, fails when it is exhausted (see `include.release.budget`).

The stage passes when all checks do and its minima (seconds, requests, labels) are met. When its time is over before
that, the evidence is not enough: INCONCLUSIVE, and nothing that is INCONCLUSIVE goes on. While a person has it paused
its time stands still, and it can fail but not pass. A person may also end the wait for evidence: then it passes unless
a check fails, and its record says who did it.

"Surely" means by an interval that holds at all looks together. The question is asked every second, and an ordinary 95%
interval that is looked at often enough ends up excluding the truth. So the usual 1.96 is replaced by the boundary of
Robbins' normal mixture, which a standardised mean crosses at any n with a chance of 5%: about 3.0 at n = 40 and 3.4 at
n = 1,000 (H. Robbins, Annals of Mathematical Statistics 41 (1970), 1397-1409; for means of any distribution I.
Waudby-Smith et al., "Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52
(2024)).

Intervals: E. Wilson, JASA 22 (1927), for a rate; R. Newcombe, Statistics in Medicine 17 (1998), 873-890, method 10, for
the difference of two rates; A. Agresti and Y. Min, Statistics in Medicine 24 (2005), 729-740, for paired answers of a
shadow stage. For a metric between 0 and 1 that is not 0/1 they are too wide, not too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from include.release.budget import Account, Spent, balance
from include.release.control import Word
from include.release.experiments.sequential import boundary as mixture
from include.spec.rollout import GuardrailSpec, StageSpec

#: Chance that a stage's interval ever excludes the truth, however often it is looked at.
ALPHA = 0.05
#: Where the boundary is tightest: about 8 times this many observations.
_RHO = 5.0
#: A median of fewer requests says little.
_FEW_REQUESTS = 20
#: Seconds that a slow median must hold where nothing answers beside the candidate: a burst of other work is over then.
_ALONE_SECONDS = 30.0


class StageVerdict(str, Enum):
    """How a stage ended, and while `wait` is set how it would end now."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class State(str, Enum):
    """Answer of one check."""

    PASS = "pass"
    FAIL = "fail"
    WAIT = "wait"


class Quality(BaseModel):
    """Mean of a labelled metric over n answers, and the standard deviation of one answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    mean: float
    n: int = Field(ge=0)
    sd: float | None = None


class Observed(BaseModel):
    """What one variant did in a stage."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    requests: int = 0
    errors: int = 0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    labels: int = 0
    quality: dict[str, Quality] = {}


class StageInput(BaseModel):
    """Everything that the verdict on a stage depends on.

    Attributes:
        seconds: Since the stage was entered.
        champion: The champion in the same stage, or (when the candidate has all traffic) in the stages before; None
            where nothing served before.
        paired: Metric -> candidate minus champion on the same requests, from a shadow stage.
        account: The rollout's error budget before this stage.
        paused: Who paused the rollout; None while it runs.
        paused_seconds: For how long of `seconds` it was paused; the stage's time stands still then.
        waved_on: Who ended the wait for evidence; None where nobody did.
        unreachable: Why the gateway could not be asked; empty when it could.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: StageSpec
    guardrails: GuardrailSpec
    seconds: float = Field(ge=0)
    candidate: Observed = Observed()
    champion: Observed | None = None
    paired: dict[str, Quality] = {}
    account: Account = Account()
    paused: Word | None = None
    paused_seconds: float = Field(default=0.0, ge=0)
    waved_on: Word | None = None
    unreachable: str = ""

    @property
    def running(self) -> float:
        """Seconds in which the stage was not paused."""
        return max(0.0, self.seconds - self.paused_seconds)


@dataclass(frozen=True)
class Check:
    """One check's answer in a sentence."""

    name: str
    state: State
    why: str


def decide(record: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict on a stage, from a stored `StageInput` record.

    Returns:
        `verdict`, `wait` (True: ask again later), `why` (a sentence per check), `checks`, `budget` (of
        `budget.balance`) where the guardrails name one, and `by` (`Word`) where a person ended the wait.
    """
    given = StageInput.model_validate(record)
    checks = [_errors(given), _latency(given), _quality(given), _minima(given)]
    budget = _budget(given)
    if budget is not None:
        checks.append(Check("budget", State.FAIL if budget["exhausted"] else State.PASS, budget["why"]))
    verdict, wait = _overall(given, checks)
    by = given.waved_on if verdict is StageVerdict.PASS else None
    return {
        "verdict": verdict.value,
        "wait": wait,
        "why": _said(given, by) + [check.why for check in sorted(checks, key=lambda check: check.state is State.PASS)],
        "checks": {check.name: check.state.value for check in checks},
        **({} if budget is None else {"budget": budget}),
        **({} if by is None else {"by": by.model_dump(mode="json")}),
    }


def pooled(observations: Iterable[Observed]) -> Observed | None:
    """Several stages of one variant as one; of the latencies, the newest that are known. None for no stage at all."""
    result: Observed | None = None
    for item in observations:
        result = item if result is None else _merged(result, item)
    return result


def boundary(n: float) -> float:
    """Standard errors that a mean of n observations strays from the truth at any time with a chance of `ALPHA`.

    Robbins' normal mixture with mixing precision `_RHO`; see `include.release.experiments.sequential`.
    """
    return mixture(n, ALPHA, _RHO)


def wilson(mean: float, n: int, z: float) -> tuple[float, float]:
    """Wilson's score interval for a rate; (0, 1) without observations."""
    if n == 0:
        return 0.0, 1.0
    mean = min(max(mean, 0.0), 1.0)
    centre = mean + z * z / (2 * n)
    reach = z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def newcombe(candidate: Quality, champion: Quality, z: float) -> tuple[float, float]:
    """Newcombe's hybrid score interval (method 10) for candidate minus champion."""
    low, high = wilson(candidate.mean, candidate.n, z)
    low_reference, high_reference = wilson(champion.mean, champion.n, z)
    difference = candidate.mean - champion.mean
    down = math.hypot(candidate.mean - low, high_reference - champion.mean)
    up = math.hypot(high - candidate.mean, champion.mean - low_reference)
    return max(-1.0, difference - down), min(1.0, difference + up)


def paired_interval(difference: Quality, z: float) -> tuple[float, float]:
    """Agresti and Min's adjusted interval for a mean paired difference: half an answer is added to each of four
    cells."""
    n = difference.n + 2
    mean = difference.mean * difference.n / n
    spread = difference.sd or 0.0
    squares = max(difference.n - 1, 0) * spread**2 + difference.n * difference.mean**2 + 1.0
    reach = z * math.sqrt(max(squares / n - mean**2, 0.0) / n)
    return max(-1.0, mean - reach), min(1.0, mean + reach)


def _overall(given: StageInput, checks: list[Check]) -> tuple[StageVerdict, bool]:
    states = {check.state for check in checks}
    if State.FAIL in states:
        return StageVerdict.FAIL, False
    if given.paused is not None:
        return StageVerdict.INCONCLUSIVE, True
    if State.WAIT not in states or (given.waved_on is not None and not given.unreachable):
        return StageVerdict.PASS, False
    return StageVerdict.INCONCLUSIVE, given.running < given.stage.max_seconds


def _said(given: StageInput, by: Word | None) -> list[str]:
    """What people did about this stage, in sentences."""
    if by is not None:
        return [f"moved on by {by.actor}: {by.reason}"]
    return [f"paused by {given.paused.actor}: {given.paused.reason}"] if given.paused else []


def _budget(given: StageInput) -> dict[str, Any] | None:
    share, seen = given.guardrails.error_budget, given.candidate
    return None if share is None else balance(share, given.account, Spent(requests=seen.requests, errors=seen.errors))


def _errors(given: StageInput) -> Check:
    seen, limit = given.candidate, given.guardrails.max_error_rate
    if seen.requests == 0:
        return Check("errors", State.PASS, "errors: no request yet")
    rate = seen.errors / seen.requests
    low, _ = wilson(rate, seen.requests, boundary(seen.requests))
    text = f"errors: {seen.errors} of {seen.requests} requests ({rate:.2%}), allowed {limit:.2%}"
    if rate <= limit:
        return Check("errors", State.PASS, text)
    return Check("errors", State.FAIL if low > limit else State.WAIT, text)


def _latency(given: StageInput) -> Check:
    seen, rails = given.candidate, given.guardrails
    p50, p95 = seen.latency_p50_ms, seen.latency_p95_ms
    reference = given.champion.latency_p95_ms if given.champion else None
    if p95 is None or p50 is None:
        return Check("latency", State.WAIT, "latency: no answer yet")
    limit = max(rails.latency_floor_ms, rails.max_latency_ratio * (reference or 0.0))
    against = "nothing to compare with" if reference is None else f"champion {reference:.4g} ms"
    text = f"latency: p50 {p50:.4g} ms, p95 {p95:.4g} ms, allowed p95 {limit:.4g} ms ({against})"
    if p95 <= limit:
        return Check("latency", State.PASS, text)
    # On a machine that is slow for everyone only a champion beside it tells what slow means: without one, wait.
    if given.champion is None or given.stage.traffic >= 1.0:
        comparable = given.seconds >= min(_ALONE_SECONDS, given.stage.max_seconds)
    else:
        comparable = given.champion.requests >= _FEW_REQUESTS
    hopeless = comparable and p50 > limit and seen.requests >= _FEW_REQUESTS
    time_over = given.paused is None and given.running >= given.stage.max_seconds
    enough = seen.requests >= given.stage.min_requests
    return Check("latency", State.FAIL if hopeless or (time_over and enough) else State.WAIT, text)


def _quality(given: StageInput) -> Check:
    """Candidate against champion; where both answered the same requests, on those."""
    metric, drop = given.guardrails.quality_metric, given.guardrails.max_quality_drop
    if given.stage.min_labels == 0 and metric not in given.candidate.quality:
        return Check("quality", State.PASS, f"quality: the stage asks for no {metric} labels")
    mine = given.candidate.quality.get(metric, Quality(mean=0.0, n=0))
    if given.champion is None:
        return Check(
            "quality", State.PASS, f"quality: {metric} {mine.mean:.3f} (n = {mine.n}), nothing to compare with"
        )
    theirs = given.champion.quality.get(metric, Quality(mean=0.0, n=0))
    pairs = given.paired.get(metric)
    if pairs is not None and pairs.n >= 2:
        difference, (low, high), n = pairs.mean, paired_interval(pairs, boundary(pairs.n)), f"n = {pairs.n} pairs"
    elif mine.n and theirs.n:
        both = 2.0 / (1.0 / mine.n + 1.0 / theirs.n)
        difference, (low, high) = mine.mean - theirs.mean, newcombe(mine, theirs, boundary(both))
        n = f"n = {mine.n} and {theirs.n}"
    else:
        state = State.PASS if given.stage.min_labels == 0 else State.WAIT
        return Check("quality", state, f"quality: {metric} is labelled {mine.n} times here, {theirs.n} times there")
    text = (
        f"quality: {metric} {mine.mean:.3f} against {theirs.mean:.3f}, "
        f"difference {difference:+.3f} [{low:+.3f}, {high:+.3f}], {n}, allowed drop {drop:g}"
    )
    if high < -drop:
        return Check("quality", State.FAIL, text)
    return Check("quality", State.PASS if low >= -drop or difference >= -drop else State.WAIT, text)


def _minima(given: StageInput) -> Check:
    stage, metric = given.stage, given.guardrails.quality_metric
    labels = given.candidate.quality[metric].n if metric in given.candidate.quality else 0
    counts = [
        (given.running, stage.min_seconds, "seconds"),
        (given.candidate.requests, stage.min_requests, "requests"),
        (labels, stage.min_labels, f"{metric} labels"),
    ]
    missing = [f"{seen:.4g} of {least:g} {unit}" for seen, least, unit in counts if seen < least]
    if given.unreachable:
        return Check("minima", State.WAIT, f"evidence: the gateway cannot be asked: {given.unreachable}")
    if not missing:
        return Check("minima", State.PASS, f"evidence: {given.candidate.requests} requests, {labels} labels")
    over = f"; the stage's {stage.max_seconds:g} s are over" if given.running >= stage.max_seconds else ""
    return Check("minima", State.WAIT, f"evidence: {', '.join(missing)}{over}")


def _merged(first: Observed, second: Observed) -> Observed:
    quality = dict(first.quality)
    for metric, more in second.quality.items():
        quality[metric] = _added(quality[metric], more) if metric in quality else more
    return Observed(
        requests=first.requests + second.requests,
        errors=first.errors + second.errors,
        latency_p50_ms=second.latency_p50_ms if second.latency_p50_ms is not None else first.latency_p50_ms,
        latency_p95_ms=second.latency_p95_ms if second.latency_p95_ms is not None else first.latency_p95_ms,
        labels=first.labels + second.labels,
        quality=quality,
    )


def _added(first: Quality, second: Quality) -> Quality:
    n = first.n + second.n
    if n == 0:
        return first
    return Quality(mean=(first.mean * first.n + second.mean * second.n) / n, n=n)
