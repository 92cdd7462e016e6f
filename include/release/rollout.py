"""Is a stage of a rollout passed? A judgement of what live traffic showed. Pure.

The stage passes when all checks do (`include.release.checks`) and its minima (seconds, requests, labels) are met. When
its time is over before that, the evidence is not enough: INCONCLUSIVE, and nothing that is INCONCLUSIVE goes on. While
a person has it paused its time stands still, and it can fail but not pass. A person may also end the wait for evidence:
then it passes unless a check fails, and its record says who did it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from include.release.checks import Check, State, all_checks, budget_of, quality_is_proven
from include.release.control import Word
from include.release.evidence import StageInput
from include.spec.rollout import Proof


class StageVerdict(str, Enum):
    """How a stage ended, and while `wait` is set how it would end now."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


_ORDER = (State.FAIL, State.WAIT, State.PASS)


def decide(record: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict on a stage, from a stored `StageInput` record.

    Returns:
        `verdict`, `wait` (True: ask again later), `why` (a sentence per check, those first that decide), `checks`,
        `budget` (of `budget.balance`) where the guardrails name one, `proven` where they ask for proof of quality
        (whether this stage gave it), and `by` (`Word`) where a person ended the wait.
    """
    given = StageInput.model_validate(record)
    checks, budget = all_checks(given), budget_of(given)
    verdict, wait = _overall(given, checks)
    by = given.waved_on if verdict is StageVerdict.PASS else None
    return {
        "verdict": verdict.value,
        "wait": wait,
        "why": _said(given, by) + [check.why for check in sorted(checks, key=lambda check: _ORDER.index(check.state))],
        "checks": {check.name: check.state.value for check in checks},
        **({} if budget is None else {"budget": budget}),
        **({"proven": quality_is_proven(given)} if given.guardrails.quality_proof is Proof.CERTAIN else {}),
        **({} if by is None else {"by": by.model_dump(mode="json")}),
    }


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
