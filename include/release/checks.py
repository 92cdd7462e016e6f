"""The checks of a stage: errors, crashes, latency, quality, memory, budget. Each passes, fails, or waits. Pure.

* *errors*: fails as soon as the candidate's error rate is surely above the limit, passes while the observed rate is
  not;
* *crashes*: fails when more processes of the gateway died over requests of the candidate than allowed: the error rate
  hides how many of the champion's requests, and of the seconds until a process is there again, each of them costs;
* *latency*: passes when the candidate's p95 is at or under the floor, or under the allowed multiple of the champion's.
  A tail above that may be a moment's load, so it waits, and fails when the stage's time is over; when even the median
  is above it, half of the requests are too slow and it fails at once, or, where the candidate has all traffic and no
  champion beside it shows whether the machine is slow for everyone, after half a minute;
* *quality*: fails when the candidate is surely worse than the champion by more than the tolerated drop. It passes when
  it is surely not, or when the stage's minimum of labels is there and the observed drop is within the tolerance; where
  the spec asks for proof the second is enough only after a stage in which it was surely not;
* *drop of* any other metric that the spec names (what users say, what the model says of itself): fails when the
  candidate is surely worse than the champion by more than tolerated; it never waits, because it proves nothing;
* *memory*: fails when the gateway grew by more than allowed since the stage began. Its models share one process, so
  that a champion that leaks stops a candidate as well; the load check before the rollout has the candidate alone;
* *budget*: the error budget of the whole rollout fails when it is exhausted (`include.release.budget`).

"Surely" means by a bound that holds at all looks together (`include.release.bounds`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from include.release.bounds import boundary, newcombe, paired_interval, wilson
from include.release.budget import Spent, balance
from include.release.evidence import Quality, StageInput
from include.spec.rollout import Proof

#: A median of fewer requests says little.
_FEW_REQUESTS = 20
#: Seconds that a slow median must hold where nothing answers beside the candidate: a burst of other work is over then.
_ALONE_SECONDS = 30.0


class State(str, Enum):
    """Answer of one check."""

    PASS = "pass"
    FAIL = "fail"
    WAIT = "wait"


@dataclass(frozen=True)
class Check:
    """One check's answer in a sentence."""

    name: str
    state: State
    why: str


def all_checks(given: StageInput) -> list[Check]:
    """Every check's answer."""
    checks = [_errors(given), _latency(given), _quality(given), _minima(given)]
    if given.candidate.crashes:
        checks.append(_crashes(given))
    checks += [_drop(given, metric, drop) for metric, drop in given.guardrails.max_drops.items()]
    if (memory := _memory(given)) is not None:
        checks.append(memory)
    if (budget := budget_of(given)) is not None:
        checks.append(Check("budget", State.FAIL if budget["exhausted"] else State.PASS, budget["why"]))
    return checks


def budget_of(given: StageInput) -> dict[str, Any] | None:
    """The rollout's error budget after what this stage saw so far; None where the guardrails name none."""
    share, seen = given.guardrails.error_budget, given.candidate
    return None if share is None else balance(share, given.account, Spent(requests=seen.requests, errors=seen.errors))


def quality_is_proven(given: StageInput) -> bool:
    """Whether this stage alone shows that the candidate is surely not worse by more than the tolerated drop."""
    found = _difference(given, given.guardrails.quality_metric)
    return found is not None and found.low >= -given.guardrails.max_quality_drop


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


def _crashes(given: StageInput) -> Check:
    seen, limit = given.candidate.crashes, given.guardrails.max_crashes
    died = "process died" if seen == 1 else "processes died"
    text = f"crashes: {seen} gateway {died} over requests of the candidate, allowed {limit}"
    return Check("crashes", State.FAIL if seen > limit else State.PASS, text)


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


@dataclass(frozen=True)
class _Difference:
    """Candidate minus champion, with its bounds; `n` in words."""

    value: float
    low: float
    high: float
    n: str


def _difference(given: StageInput, metric: str) -> _Difference | None:
    """Candidate against champion; where both answered the same requests, on those. None without labels of both."""
    nothing = Quality(mean=0.0, n=0)
    if given.champion is None:
        return None
    mine, theirs = given.candidate.quality.get(metric, nothing), given.champion.quality.get(metric, nothing)
    pairs = given.paired.get(metric)
    if pairs is not None and pairs.n >= 2:
        return _Difference(pairs.mean, *paired_interval(pairs, boundary(pairs.n)), f"n = {pairs.n} pairs")
    if mine.n and theirs.n:
        both = 2.0 / (1.0 / mine.n + 1.0 / theirs.n)
        bounds = newcombe(mine, theirs, boundary(both))
        return _Difference(mine.mean - theirs.mean, *bounds, f"n = {mine.n} and {theirs.n}")
    return None


def _quality(given: StageInput) -> Check:
    rails, nothing = given.guardrails, Quality(mean=0.0, n=0)
    metric, drop = rails.quality_metric, rails.max_quality_drop
    mine = given.candidate.quality.get(metric, nothing)
    if given.champion is None:
        compared = "nothing to compare with" if mine.n or given.stage.min_labels else "the stage asks for no labels"
        return Check("quality", State.PASS, f"quality: {metric} {mine.mean:.3f} (n = {mine.n}), {compared}")
    proof_is_missing = rails.quality_proof is Proof.CERTAIN and not given.proven_in
    unlabelled = (
        State.WAIT if given.stage.min_labels or (proof_is_missing and given.stage.traffic >= 1.0) else State.PASS
    )
    if given.stage.min_labels == 0 and metric not in given.candidate.quality:
        missing = ", and no stage has shown that it is good enough" if unlabelled is State.WAIT else ""
        return Check("quality", unlabelled, f"quality: the stage asks for no {metric} labels{missing}")
    theirs, found = given.champion.quality.get(metric, nothing), _difference(given, metric)
    if found is None:
        return Check(
            "quality", unlabelled, f"quality: {metric} is labelled {mine.n} times here, {theirs.n} times there"
        )
    text = (
        f"quality: {metric} {mine.mean:.3f} against {theirs.mean:.3f}, "
        f"difference {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {found.n}, allowed drop {drop:g}"
    )
    if found.high < -drop:
        return Check("quality", State.FAIL, text)
    if found.low >= -drop or (found.value >= -drop and not proof_is_missing):
        return Check("quality", State.PASS, text)
    return Check("quality", State.WAIT, f"{text}: not proven" if proof_is_missing else text)


def _drop(given: StageInput, metric: str, drop: float) -> Check:
    name, found = f"drop of {metric}", _difference(given, metric)
    if found is None:
        return Check(name, State.PASS, f"{metric}: nothing to compare")
    text = (
        f"{metric}: difference {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {found.n}, "
        f"allowed drop {drop:g}"
    )
    return Check(name, State.FAIL if found.high < -drop else State.PASS, text)


def _memory(given: StageInput) -> Check | None:
    """None where nobody set a limit. A gateway that cannot tell its memory is no reason to wait."""
    limit = given.guardrails.max_memory_growth_mb
    if limit is None:
        return None
    if given.memory is None:
        return Check("memory", State.PASS, "memory: the gateway does not tell")
    grown = given.memory.now_mb - given.memory.opened_mb
    text = (
        f"memory: the gateway grew by {grown:.0f} MB to {given.memory.now_mb:.0f} MB since the stage began, "
        f"allowed {limit:g} MB"
    )
    return Check("memory", State.FAIL if grown > limit else State.PASS, text)


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
