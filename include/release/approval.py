"""A person's word on a candidate before it answers anybody: what they must know, and what follows from it.

The first answer holds, and is in the ledger before anything follows from it, so that a task that dies over the
consequences finds it there and asks nobody twice. The engine lets no stage with live traffic begin without it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from include.costs.price import price_text
from include.evaluation.gates import CHAMPION
from include.release.decisions import read_decision
from include.release.ledger import Event
from include.release.registry import find_version
from include.release.state import APPROVAL, ReleaseError, Rollout, open_ledger
from include.release.takedown import take_down
from include.settings import Settings
from include.store.database import open_database

_Record = dict[str, Any]


def facts(settings: Settings, family: str, rollout: str) -> _Record:
    """What the person who approves must know.

    Returns:
        `version`, `change` (of the version number, and why), `dataset_version`, `champion` (version that serves, or
        None), `gates` (records of `GateResult`), `against_champion` (metric -> difference with its interval), `cost`
        (text), `decision` (id of the gates' verdict), `creator`, `stages` ({stage, verdict, why} of those that were
        judged).
    """
    state = Rollout.read(open_ledger(settings), family, rollout)
    engine = open_database(settings.database_url)
    version = find_version(engine, family, state.version)
    record = version.record
    decision = read_decision(engine, record["decision"])
    return {
        "version": version.version,
        "change": ", ".join(filter(None, (record.get("change"), record.get("change_why")))),
        "dataset_version": version.dataset_version,
        "champion": state.champion.version if state.champion else None,
        "gates": decision.output["gates"],
        "against_champion": (record.get("comparisons") or {}).get(CHAMPION, {}),
        "cost": price_text(record.get("cost") or {}),
        "decision": decision.id,
        "creator": record.get("creator"),
        "stages": [{name: item[name] for name in ("stage", "verdict", "why")} for item in state.judged()],
    }


def answer(settings: Settings, family: str, rollout: str) -> _Record | None:
    """`approved`, `actor`, `reason` of the answer that was given; None while there is none."""
    entry = Rollout.read(open_ledger(settings), family, rollout).entry(APPROVAL)
    if entry is None:
        return None
    return {"approved": entry.event is Event.APPROVED, "actor": entry.actor, "reason": entry.record["reason"]}


def settle(
    settings: Settings, family: str, rollout: str, *, approved: bool, reason: str, actor: str, at: datetime
) -> _Record:
    """Records an answer, and does what follows from the one that came first. Can be repeated.

    A rejected candidate leaves the shadow, is archived with the reason, and will not be announced again. What serves
    stays as it is.

    Returns:
        As `answer`.

    Raises:
        ReleaseError: The rollout ended before anybody answered.
        GatewayError: The gateway did not let go of the shadow in time; can be tried again.
    """
    state = Rollout.read(open_ledger(settings), family, rollout)
    ended = state.ended()
    if ended is not None and state.entry(APPROVAL) is None:
        raise ReleaseError(f"rollout {rollout} has ended: {ended}", hint="start a new release of that version")
    event = Event.APPROVED if approved else Event.REJECTED
    state.append(event, state.key(APPROVAL), {"rollout": rollout, "reason": reason}, actor, at)
    held = answer(settings, family, rollout)
    if held is None:
        raise ReleaseError(f"the answer about rollout {rollout} was not kept")
    if not held["approved"]:
        said = f"rejected by {held['actor']}: {held['reason']}"
        take_down(settings, family, rollout, reason=said, actor=held["actor"], at=at)
        record = {"rollout": rollout, "digest": state.candidate.digest, "verdict": "REJECTED", "why": [said]}
        state.append(Event.ARCHIVED, state.key("archived"), record, held["actor"], at)
    return held
