"""When a sweep stops before it has all its trials: what it may take is used up, or it gets no better. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from include.spec.costs import ConvergenceSpec, SweepBudget


@dataclass(frozen=True)
class TrialFacts:
    """What the rules need to know of a trial.

    Attributes:
        seconds: It took, or has taken so far.
        running: It has not ended yet.
        tried: It finished or was pruned; a trial that failed costs, and says nothing.
        value: Of the sweep's metric; None while it has none, and where it was pruned.
    """

    seconds: float
    running: bool = False
    tried: bool = True
    value: float | None = None


@dataclass(frozen=True)
class Spent:
    """Seconds of all trials so far, and of the next one if it is like those that finished (None: none did yet)."""

    seconds: float
    expected: float | None

    def with_next(self, more: int = 1) -> float:
        """Seconds of all trials so far, and of `more` others."""
        return self.seconds + more * (self.expected or 0.0)


def spent(trials: Sequence[TrialFacts]) -> Spent:
    """What the trials took; one that runs counts as what a trial takes, or as what it took if that is more."""
    tried = [trial.seconds for trial in trials if trial.tried and not trial.running]
    expected = sum(tried) / len(tried) if tried else None
    seconds = sum(max(trial.seconds, expected or 0.0) if trial.running else trial.seconds for trial in trials)
    return Spent(seconds, expected)


def over_budget(
    trials: Sequence[TrialFacts], budget: SweepBudget, per_second: float | None, *, reserve: int = 0
) -> str | None:
    """Why no further trial may start; None while one may.

    Args:
        trials: All that started so far.
        per_second: Price of a worker for a second; None where it is not known.
        reserve: Trials that the budget must have room for after the next one: repeats of the best.
    """
    if not trials:
        return None  # the defaults are always tried: a sweep without a result would be money for nothing
    seconds = spent(trials).with_next(1 + reserve)
    another = f"another trial{f' and {reserve} repeats' if reserve else ''} would take the sweep to"
    if budget.minutes is not None and seconds / 60 > budget.minutes:
        return f"{another} {seconds / 60:.3g} of {budget.minutes:g} minutes"
    if budget.money is not None and per_second is not None and seconds * per_second > budget.money:
        return f"{another} {seconds * per_second:.3g} of {budget.money:g} in money"
    return None


def converged(
    values: Sequence[float | None], direction: Literal["maximize", "minimize"], rule: ConvergenceSpec | None
) -> str | None:
    """Why the sweep will get no better; None while it may.

    Args:
        values: Of the trials that were tried, in their order; None for a pruned one, which improved nothing.
    """
    if rule is None or len(values) <= rule.patience:
        return None
    sign = 1.0 if direction == "maximize" else -1.0
    before = [sign * value for value in values[: -rule.patience] if value is not None]
    last = [sign * value for value in values[-rule.patience :] if value is not None]
    if not before or (last and max(last) - max(before) > rule.min_delta):
        return None
    return f"the last {rule.patience} trials did not improve the best by more than {rule.min_delta:g}"
