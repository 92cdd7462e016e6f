"""The error budget of a rollout: how many of the candidate's live requests may fail, over all of its stages. Pure.

A stage asks whether the candidate's error *rate* is surely too high; a candidate that stays just under that in every
stage can still do more harm than anybody agreed to. The budget counts harm that was done: failed live requests of the
whole rollout, the bake at full traffic included, each of them spent for good. It allows a share of the requests that
the plan asks for, or of those that came where more did. So a single failure among the first ten requests does not
exhaust it, and no stage starts with a clean slate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from include.spec.rollout import StageSpec

_ROUNDING = 1e-9


class Spent(BaseModel):
    """Live requests of the candidate, and how many of them failed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    requests: int = Field(default=0, ge=0)
    errors: int = Field(default=0, ge=0)

    def __add__(self, other: Spent) -> Spent:
        return Spent(requests=self.requests + other.requests, errors=self.errors + other.errors)


class Account(BaseModel):
    """What a stage knows of the rollout's budget.

    Attributes:
        planned: Live requests that all stages of the plan ask for at least.
        earlier: What the stages before this one spent.
        live: Whether the candidate's answers in this stage reach anybody; in a shadow they do not.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    planned: int = Field(default=0, ge=0)
    earlier: Spent = Spent()
    live: bool = True


def balance(share: float, account: Account, here: Spent) -> dict[str, Any]:
    """The budget after `here`, what this stage has seen so far.

    Returns:
        `share`, `requests`, `spent` (failed ones), `allowed`, `left` (below 0 where more failed than allowed),
        `exhausted`, `why` (a sentence).
    """
    total = account.earlier + here if account.live else account.earlier
    allowed = math.floor(share * max(account.planned, total.requests) + _ROUNDING)
    exhausted = total.errors > allowed
    text = (
        f"error budget: {total.errors} of {allowed} failed requests spent, {account.earlier.errors} of them in earlier "
        f"stages ({total.requests} live requests so far, {share:.2%} may fail)"
    )
    return {
        "share": share,
        "requests": total.requests,
        "spent": total.errors,
        "allowed": allowed,
        "left": allowed - total.errors,
        "exhausted": exhausted,
        "why": f"{text}: exhausted" if exhausted else text,
    }


def planned_requests(stages: Iterable[StageSpec], *, alone: bool) -> int:
    """Live requests that the plan asks for at least.

    Args:
        alone: Nothing served before, so that the candidate answers everything in every stage.
    """
    return sum(stage.min_requests for stage in stages if is_live(stage.model_dump(), alone=alone))


def is_live(stage: Mapping[str, Any], *, alone: bool) -> bool:
    """Whether somebody gets the candidate's answers in this stage; of a spec or a ledger record."""
    return alone or not stage["shadow"]
