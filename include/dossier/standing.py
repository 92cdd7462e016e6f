"""Where a version stands now, in one sentence for the person on call, and what that person can do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from include.dossier.subject import History, Subject
from include.dossier.traffic import traffic_of, way_back
from include.errors import clip
from include.release.ledger import Entry, Event, Route
from include.release.routing import Role

_Record = dict[str, Any]

_REASON = 300


def standing_of(history: History, subject: Subject, rollouts: Sequence[Mapping[str, Any]]) -> _Record:
    """Where it stands.

    Returns:
        `state` ("serving", "in rollout", "shadow", "in experiment", "replaced", "rolled back", "refused", "rejected",
        "waiting", "for comparison"), `share` (of the traffic now), `since`, `stage`, `headline`, `why`, `do` (commands
        that help now), `rollback_to` (the version that traffic would go back to, or None).
    """
    now = _now(history, subject)
    if now is not None:
        return now
    return {
        "share": 0.0,
        "since": None,
        "stage": "",
        "do": [],
        "rollback_to": None,
        **_past(history, subject, rollouts),
    }


def _now(history: History, subject: Subject) -> _Record | None:
    """Of a version that is in the traffic."""
    route, name = history.route, subject.version.version if subject.version else None
    variant = next((one for one in route.table.variants if one.version == name), None) if route else None
    if route is None or variant is None:
        return None
    table, family, share = route.table, history.family, route.table.shares[variant.version]
    since = next((p["since"] for p in reversed(traffic_of(history.routes, name)) if p["until"] is None), None)
    back = way_back(history.routes)
    record = {"share": round(share, 6), "since": since, "stage": table.stage, "why": route.reason, "rollback_to": back}
    rollback = [f"windtunnel rollback {family} --reason ..."] if back else []
    if table.arms:
        told = f"answers {share:.0%} of the traffic in an experiment"
        return {**record, "state": "in experiment", "headline": told, "do": rollback}
    if variant.role is Role.CHALLENGER:
        steer = [f"windtunnel rollout abort {family} --reason ...", f"windtunnel rollout pause {family} --reason ..."]
        if table.shadow:
            return {**record, "state": "shadow", "headline": "works in the shadow and answers nobody", "do": steer}
        told = f"answers {share:.0%} of the traffic in stage {table.stage}"
        return {**record, "state": "in rollout", "headline": told, "do": steer}
    crowned = _crowned(history, variant.version)
    if crowned is not None:
        record |= {"since": crowned.at.isoformat(), "why": crowned.reason}
    told = f"the champion, answers {share:.0%} of the traffic"
    if table.stage:
        other = table.challenger.version if table.challenger else "it"
        told += f" while {other} is in stage {table.stage}"
        rollback = [f"windtunnel rollout abort {family} --reason ..."]
    return {**record, "state": "serving", "headline": told, "do": rollback}


def _crowned(history: History, version: str) -> Route | None:
    """The generation since which the version is the champion without a break."""
    found = None
    for route in reversed(history.routes):
        if route.table.champion.version != version:
            break
        found = route
    return found


def _past(history: History, subject: Subject, rollouts: Sequence[Mapping[str, Any]]) -> _Record:
    """Of a version that has no traffic."""
    if subject.version is None:
        outcome = subject.refused.decision.output if subject.refused else {}
        why = next(iter(outcome.get("why") or []), "")
        after = {"retry": "; another round was trained", "archive": "; archived"}.get(str(outcome.get("next")), "")
        return {"state": "refused", "headline": f"refused by its gates: {outcome.get('verdict')}{after}", "why": why}
    left = _left(history, subject.version.version)
    if left is not None:
        return left
    last = rollouts[-1] if rollouts else None
    rejected = _rejected(last)
    if rejected is not None:
        return {"state": "rejected", "headline": f"rejected by {rejected['by']}", "why": rejected["why"]}
    if last is not None:
        stage = next((one["stage"] for one in reversed(last["stages"]) if one["entered_at"]), "its load check")
        told = f"{last['outcome']} in {stage}; never served everything"
        return {"state": "rolled back", "headline": told, "why": clip(last["why"], _REASON)}
    if subject.version.is_baseline:
        return {"state": "for comparison", "headline": "a baseline that never served", "why": ""}
    if not subject.version.releasable:
        return {"state": "for comparison", "headline": "registered for comparison; may not be released", "why": ""}
    return {"state": "waiting", "headline": "registered, and not released yet", "why": ""}


def _left(history: History, version: str) -> _Record | None:
    """How a version that served everything lost its traffic; None where it never did."""
    before: Route | None = None
    served, ended = False, None
    for route in history.routes:
        if before is not None and before.table.champion.version == version != route.table.champion.version:
            ended = route
        served = served or (route.table.champion.version == version and not route.table.stage)
        before = route
    if not served or ended is None:
        return None
    entry = _rolled_back(history.entries, version, ended.generation)
    if entry is not None:
        told = f"rolled back to {entry.record.get('to')} after it had served"
        reason = clip(entry.record.get("reason", ""), _REASON)
        return {"state": "rolled back", "headline": told, "why": reason, "since": ended.at.isoformat()}
    told = f"replaced by {ended.table.champion.version}"
    return {"state": "replaced", "headline": told, "why": ended.reason, "since": ended.at.isoformat()}


def _rolled_back(entries: Sequence[Entry], version: str, generation: int) -> Entry | None:
    return next(
        (
            entry
            for entry in entries
            if entry.event is Event.ROLLED_BACK
            and entry.model_version == version
            and entry.record.get("generation") == generation
        ),
        None,
    )


def _rejected(rollout: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    words = rollout["words"] if rollout else []
    return next((word for word in words if word["said"] == "rejected"), None)
