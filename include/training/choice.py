"""Which trial of a sweep wins: by one metric, by two, and after repeats over seeds. Pure.

All rules are the same function of what the study holds, so whoever asks, and whenever, gets the same answer. Of equal
trials the earlier one wins; trial 0 tried the defaults, so that nothing replaces them without being better.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from include.spec.search import ConfirmSpec, SweepSpec

_SPREAD_NEEDS = 2  # values


@dataclass(frozen=True)
class Outcome:
    """What a finished trial came to.

    Attributes:
        value: Of the sweep's metric.
        second: Of its second objective; None where the sweep has none.
    """

    trial: int
    value: float
    second: float | None = None


@dataclass(frozen=True)
class Repeated:
    """A configuration that was trained again.

    Attributes:
        swept: The trial's own value, by which it was chosen to be repeated.
        mean, spread: Of the repeats: mean and sample standard deviation; None where it diverged or n is below 2.
        n: Repeats that count: with the seeds that every configuration was trained with.
        diverged: Those of them that gave no finite value.
        score: Mean less (where the metric is minimised: plus) `confirm.spread` spreads; None where there is no mean.
    """

    trial: int
    swept: float
    mean: float | None
    spread: float | None
    n: int
    diverged: int
    score: float | None


@dataclass(frozen=True)
class Confirmation:
    """What the repeats decided.

    Attributes:
        trial: The winner; the sweep's own where the repeats cannot say.
        changed: Whether that is another one than the sweep's.
        why: In a sentence.
        repeated: Every configuration, the sweep's best first.
    """

    trial: int
    changed: bool
    why: str
    repeated: tuple[Repeated, ...]


def pareto_front(outcomes: Sequence[Outcome], sweep: SweepSpec) -> list[Outcome]:
    """Those that no other trial beats in one objective without losing in the other, the best by the metric first.

    Of trials with equal values in both, the first. With one objective, the front is the best trial.
    """
    ordered = sorted(outcomes, key=lambda outcome: (*_lower_is_better(outcome, sweep), outcome.trial))
    front: list[Outcome] = []
    for outcome in ordered:  # the metric falls from here on: what is left must cost less than all before
        if not front or _lower_is_better(outcome, sweep)[1] < _lower_is_better(front[-1], sweep)[1]:
            front.append(outcome)
    return front


def ranked(outcomes: Sequence[Outcome], sweep: SweepSpec, front: Sequence[Outcome] | None = None) -> list[Outcome]:
    """The outcomes, the winner first, by the sweep's metric and the rule of its second objective.

    Args:
        front: The Pareto front whose ranges are the scale of `knee`; that of `outcomes` by default.
    """
    second = sweep.second
    if second is None or second.choose == "best":
        return sorted(outcomes, key=lambda outcome: (*_lower_is_better(outcome, sweep), outcome.trial))
    if second.choose == "within":
        limit = second.limit if second.direction == "minimize" else -(second.limit or 0.0)
        assert limit is not None  # the spec sees to it

        def nearest(outcome: Outcome) -> tuple[float, ...]:
            value, cost = _lower_is_better(outcome, sweep)
            return (max(0.0, cost - limit), value, cost, outcome.trial)

        return sorted(outcomes, key=nearest)
    scale = pareto_front(outcomes, sweep) if front is None else front
    best = {outcome.trial for outcome in pareto_front(outcomes, sweep)}
    axes = list(zip(*(_lower_is_better(outcome, sweep) for outcome in scale), strict=True))

    def distance(outcome: Outcome) -> tuple[Any, ...]:
        parts = [
            (value - min(axis)) / (max(axis) - min(axis)) if max(axis) > min(axis) else 0.0
            for value, axis in zip(_lower_is_better(outcome, sweep), axes, strict=True)
        ]
        return (outcome.trial not in best, math.hypot(*parts), *_lower_is_better(outcome, sweep), outcome.trial)

    return sorted(outcomes, key=distance)


def confirm(
    outcomes: Sequence[Outcome], repeats: Mapping[int, Mapping[int, float | None]], sweep: SweepSpec, rule: ConfirmSpec
) -> Confirmation:
    """The winner among the `rule.top` best trials, by what training them again gave.

    Only seeds count that all of them were trained with: where the budget ended the repeats, every configuration is
    judged on the same number of them.

    Args:
        outcomes: All finished trials; at least one.
        repeats: Trial -> seed -> value of the metric, None where training diverged.
    """
    order = ranked(outcomes, sweep)
    top = order[: rule.top]
    common = set.intersection(*(set(repeats.get(outcome.trial, {})) for outcome in top))
    sign = 1.0 if sweep.direction == "maximize" else -1.0
    repeated = tuple(_repeated(outcome, repeats, sorted(common), sign * rule.spread) for outcome in top)
    first = top[0].trial
    if len(common) < _SPREAD_NEEDS:
        why = f"{len(common)} of {rule.seeds} seeds were tried with all configurations: the sweep's best stays"
        return Confirmation(first, False, why, repeated)
    again = [
        replace(outcome, value=row.score) for outcome, row in zip(top, repeated, strict=True) if row.score is not None
    ]
    if not again:
        return Confirmation(
            first, False, "every configuration diverged with some seed: the sweep's best stays", repeated
        )
    order = ranked(again, sweep, pareto_front(outcomes, sweep) if sweep.second else None)
    # Sorted by trial, a tie would go to the earliest; the sweep's order says more than the order of trying.
    place = {outcome.trial: index for index, outcome in enumerate(top)}
    tied = [outcome for outcome in order if (outcome.value, outcome.second) == (order[0].value, order[0].second)]
    winner = min(tied, key=lambda outcome: place[outcome.trial]).trial
    why = f"best mean {'less' if sign > 0 else 'plus'} {rule.spread:g} spreads over {len(common)} seeds"
    return Confirmation(winner, winner != first, why, repeated)


def _repeated(
    outcome: Outcome, repeats: Mapping[int, Mapping[int, float | None]], seeds: Sequence[int], spreads: float
) -> Repeated:
    values = [repeats[outcome.trial][seed] for seed in seeds]
    finite = [value for value in values if value is not None]
    diverged = len(values) - len(finite)
    if diverged or len(finite) < _SPREAD_NEEDS:
        return Repeated(outcome.trial, outcome.value, None, None, len(values), diverged, None)
    mean, spread = statistics.fmean(finite), statistics.stdev(finite)
    return Repeated(outcome.trial, outcome.value, mean, spread, len(values), 0, mean - spreads * spread)


def _lower_is_better(outcome: Outcome, sweep: SweepSpec) -> tuple[float, float]:
    value = -outcome.value if sweep.direction == "maximize" else outcome.value
    if sweep.second is None or outcome.second is None:
        return value, 0.0
    return value, -outcome.second if sweep.second.direction == "maximize" else outcome.second
