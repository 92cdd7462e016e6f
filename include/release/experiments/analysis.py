"""What an experiment says now, and what it may not say yet. Pure: a decision of a stored JSON input.

It may be asked at any time, as often as one likes (`sequential`). In this order:

* VOID: the experiment is broken. Units per variant do not come in the planned proportion, or units met more than one
  variant. No number of it means anything, however good it looks.
* SHIP: a challenger is surely better on the primary metric, and surely not worse on any guardrail than its margin.
* KEEP: no challenger can win any more (surely worse, surely worse on a guardrail, or surely not better by the smallest
  difference of interest), or the time is over without proof. INCONCLUSIVE never ships.
* CONTINUE: none of that yet; it says what is missing.

The primary metric of several challengers is corrected by Holm's method, whatever the design asks for, because one false
winner is one too many. To be harmless a challenger must pass every guardrail, which needs no correction; to be called
harmful, p-values are corrected over all challengers and guardrails. Intervals hold for all challengers together
(Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from include.release.experiments.comparison import Comparison, State, compare, primary_state
from include.release.experiments.design import Design
from include.release.experiments.estimate import Sums, difference, estimates
from include.release.experiments.sequential import p_value, ratio_always_valid

#: A share check that falls below this voids the experiment; far below alpha, because it is a matter of plumbing.
RATIO_ALPHA = 0.001
#: Units that met several variants are left out; more than this share of them is no accident.
MAX_CROSSED = 0.01


class Recommendation(str, Enum):
    """What to do with the experiment."""

    SHIP = "SHIP"
    KEEP = "KEEP"
    CONTINUE = "CONTINUE"
    VOID = "VOID"


class MetricSums(BaseModel):
    """One metric in every variant, over the units of which everything is known.

    Attributes:
        share: Every value lay between 0 and 1.
        variants: Version -> sums over its units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: bool
    variants: dict[str, Sums]


class AnalysisInput(BaseModel):
    """Everything that the recommendation depends on.

    Attributes:
        days: Since traffic moved.
        exposed: Version -> units that met it, and no other variant.
        ripe: Version -> those of them whose answers and labels are all in.
        crossed: Units that met several variants.
        strayed: Units that met another variant than the one they are assigned to.
        metrics: Metric -> what is known of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    design: Design
    days: float = Field(ge=0)
    exposed: dict[str, int]
    ripe: dict[str, int] = {}
    crossed: int = 0
    strayed: int = 0
    metrics: dict[str, MetricSums] = {}


def decide(record: Mapping[str, Any]) -> dict[str, Any]:
    """The recommendation, from a stored `AnalysisInput` record.

    Returns:
        `verdict`, `version` (to ship or keep; None while neither), `why` (sentences, the recommendation first), `open`
        (what it may not say yet), `ratio` (the share check), `comparisons` (a record per challenger and metric), and
        `units_needed` (per variant, at most; None once it is decided).
    """
    given = AnalysisInput.model_validate(record)
    design = given.design
    ratio = _ratio(given)
    broken = _broken(given, ratio)
    cautions = _uneven_labels(given)
    comparisons = compare(design, {name: (found.variants, found.share) for name, found in given.metrics.items()})
    shown = {"ratio": ratio, "comparisons": [item.to_json() for item in comparisons]}
    if broken:
        why = [f"void: {'; '.join(broken)}", "find the cause, mend it and begin a new experiment under a new name"]
        return {
            **_answer(Recommendation.VOID, None, why, ["anything: the numbers of a broken test mean nothing"]),
            **shown,
        }
    states = {version: _state(design, version, comparisons) for version in design.challengers}
    winners = [version for version, (state, _) in states.items() if state is State.WINS]
    reasons = [why for _, why in states.values()]
    if winners:
        best = max(winners, key=lambda version: _of(comparisons, version, design.primary.name).gain)
        return {
            **_answer(
                Recommendation.SHIP, best, [f"ship {best}", *reasons], [*_after_a_win(design, winners), *cautions]
            ),
            **shown,
        }
    if all(state is State.LOSES for state, _ in states.values()):
        return {**_answer(Recommendation.KEEP, design.control, [f"keep {design.control}", *reasons], cautions), **shown}
    if given.days >= design.max_days:
        why = [f"keep {design.control}: the {design.max_days:g} days are over without proof", *reasons]
        said = [
            "that the variants are alike: not proven better is not proven equal; the intervals say what is possible"
        ]
        return {**_answer(Recommendation.KEEP, design.control, why, [*said, *cautions]), **shown}
    needed = dict(zip(design.weights, design.plan().always, strict=True))
    why = [f"go on: {_missing(given, needed)}", *reasons]
    answer = _answer(Recommendation.CONTINUE, None, why, [*_not_yet(design, states), *cautions])
    return {**answer, **shown, "units_needed": needed}


def _uneven_labels(given: AnalysisInput) -> list[str]:
    """Where a label comes more often for one variant: what is not labelled may differ from what is."""
    found = given.metrics.get(given.design.primary.name)
    ripe = {version: given.ripe.get(version, 0) for version in given.design.weights}
    if found is None or not all(ripe.values()):
        return []
    known = {version: found.variants[version].n if version in found.variants else 0 for version in ripe}
    labelled = {
        version: Sums(n=units, y=known[version], m=units, yy=known[version], mm=units, ym=known[version])
        for version, units in ripe.items()
    }
    rates = estimates(labelled, share=True)
    control = rates.get(given.design.control)
    said = []
    for version in given.design.challengers:
        if control is None or version not in rates:
            continue
        gap = difference(rates[version], control)
        if p_value(gap.value / gap.error, gap.n, gap.n) < RATIO_ALPHA:
            said.append(
                f"that units without a {given.design.primary.name} are like the others: {rates[version].value:.1%} of "
                f"{version}'s units have one, {control.value:.1%} of {given.design.control}'s"
            )
    return said


def _answer(verdict: Recommendation, version: str | None, why: list[str], open_: list[str]) -> dict[str, Any]:
    return {"verdict": verdict.value, "version": version, "why": why, "open": open_, "units_needed": None}


def _ratio(given: AnalysisInput) -> dict[str, Any]:
    weights = given.design.weights
    counts = {version: given.exposed.get(version, 0) for version in weights}
    total, weight = sum(counts.values()), sum(weights.values())
    return {
        "units": counts,
        "expected": {version: round(total * share / weight, 1) for version, share in weights.items()},
        "p_value": ratio_always_valid(list(counts.values()), list(weights.values())),
    }


def _broken(given: AnalysisInput, ratio: Mapping[str, Any]) -> list[str]:
    reasons = []
    if ratio["p_value"] < RATIO_ALPHA:
        seen = ", ".join(
            f"{version} has {count} units, {ratio['expected'][version]:g} expected"
            for version, count in ratio["units"].items()
        )
        reasons.append(f"the sample ratio is off (always-valid p = {ratio['p_value']:.2g}): {seen}")
    units = sum(given.exposed.values()) + given.crossed
    for count, what in (
        (given.crossed, "met more than one variant"),
        (given.strayed, "met a variant not assigned to them"),
    ):
        if count > MAX_CROSSED * units:
            reasons.append(f"{count} of {units} units {what}")
    return reasons


def _state(design: Design, version: str, comparisons: list[Comparison]) -> tuple[State, str]:
    """Where a challenger stands, by its primary metric and then its guardrails."""
    primary = _of(comparisons, version, design.primary.name)
    state, why = primary_state(design, primary)
    rails = [_of(comparisons, version, metric.name) for metric in design.guardrails]
    for rail in rails:
        if rail.harmful:
            return State.LOSES, f"{version}: worse on {rail.sentence()}, more than the {rail.margin:g} that is allowed"
    if state is not State.WINS:
        return state, why
    unproven = [rail for rail in rails if not rail.harmless]
    if unproven:
        said = "; ".join(rail.sentence() for rail in unproven)
        return State.OPEN, f"{why}, but not yet surely harmless on {said}"
    return state, why


def _of(comparisons: list[Comparison], version: str, metric: str) -> Comparison:
    return next(item for item in comparisons if (item.version, item.metric) == (version, metric))


def _missing(given: AnalysisInput, needed: Mapping[str, int]) -> str:
    design = given.design
    found = given.metrics.get(design.primary.name)
    seen = {version: found.variants[version].n if found and version in found.variants else 0 for version in needed}
    short = [
        f"{version} has {seen[version]} of at most {most} units whose {design.primary.name} is known"
        for version, most in needed.items()
        if seen[version] < most
    ]
    if not short:
        return (
            f"the planned units are there; it can go on until day {design.max_days:g}, and says so when it knows more"
        )
    return "; ".join(short)


def _not_yet(design: Design, states: Mapping[str, tuple[State, str]]) -> list[str]:
    undecided = [version for version, (state, _) in states.items() if state is not State.LOSES]
    return [f"whether {version} is better or worse than {design.control}" for version in undecided]


def _after_a_win(design: Design, winners: list[str]) -> list[str]:
    said = ["how large the effect is: an experiment that stops early shows it on the large side; trust the interval"]
    if len(design.challengers) > 1:
        others = ", ".join(version for version in design.challengers if version not in winners)
        said.append(f"which challenger is the best one: each was compared with {design.control} only")
        if others:
            said.append(f"that {others} would not have won later")
    return said
