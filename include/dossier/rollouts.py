"""Rollouts as the ledger tells them: stages with what was seen, what people said, the error budget, how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from include.dossier.subject import History
from include.release.budget import is_live
from include.release.ledger import Entry, Event, Route
from include.release.state import Rollout
from include.spec.rollout import StageSpec

_WORDS = frozenset({Event.PAUSED, Event.RESUMED, Event.WAVED_ON, Event.APPROVED, Event.REJECTED})
_SEEN = ("requests", "errors", "latency_p50_ms", "latency_p95_ms", "labels", "quality")
_ABORTED = "aborted: "

_Record = dict[str, Any]


def rollouts_of(history: History, version: str | None) -> list[_Record]:
    """The rollouts of a version (None: of all versions), the oldest first; see `_rollout`."""
    begun = [entry for entry in history.entries if entry.event is Event.ROLLOUT_BEGUN]
    return [_rollout(history, entry) for entry in begun if version is None or entry.model_version == version]


def under_way(history: History) -> _Record | None:
    """The rollout that is under way; None where there is none."""
    state = Rollout.under_way(history.ledger, history.family)
    return _rollout(history, state.begun) if state else None


def _rollout(history: History, begun: Entry) -> _Record:
    """One rollout.

    Returns:
        `rollout`, `version`, `against` (the champion then, or None), `run`, `actor`, `begun_at`, `plan`, `load_check`
        ({verdict, why, at} or None), `stages` (see `_stage`), `words` ({said, by, why, at, stages}), `budget`,
        `outcome` ("promoted", "rolled back", "under way", "taken over"), `ended_at`, `why`, `by`.
    """
    state = Rollout(history.ledger, history.family, begun)
    own = [entry for entry in history.entries if entry.record.get("rollout") == state.id]
    stages = [_stage(state, stage, own) for stage in _plan(state)]
    return {
        "rollout": state.id,
        "version": state.version,
        "against": state.champion.version if state.champion else None,
        "run": begun.record.get("run"),
        "actor": begun.actor,
        "begun_at": begun.at.isoformat(),
        "plan": begun.record.get("plan"),
        "load_check": _load_check(own),
        "stages": stages,
        "words": _words(own),
        "budget": _budget(stages, alone=state.champion is None),
        **_ending(history, state, own, history.routes),
    }


def _plan(state: Rollout) -> list[StageSpec | str]:
    """Stages as planned; their names alone where the plan was not written down."""
    if state.begun.record.get("plan"):
        return list(state.plan.stages)
    return list(state.stages)


def _stage(state: Rollout, planned: StageSpec | str, own: Sequence[Entry]) -> _Record:
    """One stage: what was planned, when it was entered, what was seen until its verdict, and the verdict.

    Returns:
        `stage`, `traffic`, `shadow`, `minimum` ({seconds, requests, labels} that the plan asks for), `entered_at`,
        `generation`, `judged_at`, `seconds`, `candidate` and `champion` (what they did), `paired`, `verdict` (None: not
        judged), `why`, `budget`, `memory`, `waved_on` (who ended the wait for evidence), `decision`.
    """
    name = planned if isinstance(planned, str) else planned.name
    entered = _find(own, Event.STAGE_ENTERED, name)
    judged = _find(own, Event.STAGE_JUDGED, name)
    said: Mapping[str, Any] = judged.record if judged else {}
    known: Mapping[str, Any] = said or (entered.record if entered else {})
    minimum = None
    if not isinstance(planned, str):
        known = {"traffic": planned.traffic, "shadow": planned.shadow}
        minimum = {"seconds": planned.min_seconds, "requests": planned.min_requests, "labels": planned.min_labels}
    return {
        "stage": name,
        "traffic": known.get("traffic"),
        "shadow": bool(known.get("shadow")),
        "minimum": minimum,
        "entered_at": entered.at.isoformat() if entered else None,
        "generation": entered.record.get("generation") if entered else None,
        "judged_at": judged.at.isoformat() if judged else None,
        "seconds": said.get("seconds"),
        "candidate": {name: said.get(name) for name in _SEEN} if judged else None,
        "champion": said.get("champion"),
        "paired": said.get("paired") or {},
        "verdict": said.get("verdict"),
        "why": list(said.get("why") or []),
        "budget": said.get("budget"),
        "memory": said.get("memory"),
        "waved_on": said.get("by"),
        "decision": said.get("decision"),
    }


def _find(own: Sequence[Entry], event: Event, stage: str) -> Entry | None:
    return next((entry for entry in own if entry.event is event and entry.record.get("stage") == stage), None)


def _load_check(own: Sequence[Entry]) -> _Record | None:
    entry = next((entry for entry in own if entry.event is Event.LOAD_CHECKED), None)
    if entry is None:
        return None
    return {"verdict": entry.record.get("verdict"), "why": list(entry.record.get("why") or []), "at": _at(entry)}


def _words(own: Sequence[Entry]) -> list[_Record]:
    """What people said, in its order; an abort stands in the ledger as the end that it is."""
    found = []
    for entry in own:
        reason = str(entry.record.get("reason", ""))
        if entry.event in _WORDS:
            said = entry.event.value.replace("_", " ")
        elif entry.event is Event.ROLLED_BACK and reason.startswith(_ABORTED):
            said, reason = "aborted", reason.removeprefix(_ABORTED)
        else:
            continue
        stages = list(entry.record.get("stages") or [])
        found.append({"said": said, "by": entry.actor, "why": reason, "at": _at(entry), "stages": stages})
    return found


def _budget(stages: Sequence[_Record], *, alone: bool) -> _Record:
    """What the rollout spent by its last verdict. Where no budget was set: the failed live requests, and no limit."""
    kept: list[_Record] = [stage["budget"] for stage in stages if stage["budget"]]
    if kept:
        return kept[-1]
    live = [stage["candidate"] for stage in stages if stage["candidate"] and is_live(stage, alone=alone)]
    spent, requests = (sum(seen[name] or 0 for seen in live) for name in ("errors", "requests"))
    why = f"no error budget was set; {spent} of {requests} live requests failed"
    nothing = {"share": None, "allowed": None, "left": None, "exhausted": False}
    return {**nothing, "requests": requests, "spent": spent, "why": why}


def _ending(history: History, state: Rollout, own: Sequence[Entry], routes: Sequence[Route]) -> _Record:
    for event, outcome in ((Event.ROLLED_BACK, "rolled back"), (Event.PROMOTED, "promoted")):
        entry = next((entry for entry in own if entry.event is event), None)
        if entry is not None:
            why = str(entry.record.get("reason") or "every stage was passed")
            to = entry.record.get("to")
            return {"outcome": outcome, "ended_at": _at(entry), "why": why, "by": entry.actor, "to": to}
    current = Rollout.under_way(history.ledger, history.family)
    if current is not None and current.id == state.id:
        return {"outcome": "under way", "ended_at": None, "why": "", "by": None, "to": None}
    after = [route for route in routes if route.generation > state.begun.record.get("generation", 0)]
    other = next((route for route in after if route.table.rollout != state.id), None)
    why = f"generation {other.generation}: {other.reason}" if other else "it did not go on"
    return {
        "outcome": "taken over",
        "ended_at": other.at.isoformat() if other else None,
        "why": why,
        "by": other.actor if other else None,
        "to": other.table.champion.version if other else None,
    }


def _at(entry: Entry) -> str:
    return entry.at.isoformat()
