"""Whether to ask for a retrain. Pure.

Any monitor that asks is enough, with two brakes: no second request within the cooldown, and no second request for the
same cause. A cause is what asks and what it saw, on which champion; if a retrain for it did not help, asking again will
not either, and a person should look. Whatever the answer is, it says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from include.steps.fingerprint import fingerprint


class Vote(BaseModel):
    """What a monitor says.

    Attributes:
        monitor: Its name.
        asks: Whether it asks for a retrain.
        why: What it saw, in a sentence.
        cause: What makes this cause the same as another one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    monitor: str
    asks: bool
    why: str = ""
    cause: dict[str, Any] = {}


class Request(BaseModel):
    """An earlier retrain request."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: AwareDatetime
    fingerprint: str


class GovernorInput(BaseModel):
    """Everything that the decision depends on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    family: str
    champion: str | None
    votes: list[Vote]
    requests: list[Request]
    cooldown_hours: float
    now: AwareDatetime


def decide(record: Mapping[str, Any]) -> dict[str, Any]:
    """Whether to fire, from a stored `GovernorInput` record.

    Returns:
        `fire`, `why` (sentences, the deciding one first), `fingerprint` (of the cause), `monitors` (that ask).
    """
    given = GovernorInput.model_validate(record)
    asking = sorted((vote for vote in given.votes if vote.asks), key=lambda vote: vote.monitor)
    heard = [
        f"{vote.monitor}: {vote.why or 'asks' if vote.asks else vote.why or 'does not ask'}" for vote in given.votes
    ]
    cause = cause_of(given.family, given.champion, asking)
    reason = _brake(given, asking, cause)
    names = [vote.monitor for vote in asking]
    fires = f"a retrain is asked for by {', '.join(names)}"
    return {"fire": reason is None, "why": [reason or fires, *heard], "fingerprint": cause, "monitors": names}


def cause_of(family: str, champion: str | None, asking: Sequence[Vote]) -> str:
    """Fingerprint of who asks and what they saw, on which champion."""
    seen = {vote.monitor: vote.cause for vote in asking}
    return fingerprint(family=family, champion=champion, seen=seen)[:20]


def _brake(given: GovernorInput, asking: Sequence[Vote], cause: str) -> str | None:
    """Why not to fire; None when nothing speaks against it."""
    if not asking:
        return "no monitor asks for a retrain"
    same = [request for request in given.requests if request.fingerprint == cause]
    if same:
        when = _shown(max(request.at for request in same))
        return f"declined: a retrain for this very cause was asked for at {when}, and the champion is still the same"
    if given.requests:
        last = max(request.at for request in given.requests)
        until = last + timedelta(hours=given.cooldown_hours)
        if given.now < until:
            return f"declined: the last request was at {_shown(last)}, the cooldown lasts until {_shown(until)}"
    return None


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
