"""The releases of a family: who answers how much now, the rollout under way, every version, and how it was before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from include.dossier.gather import drill_of
from include.dossier.rollouts import rollouts_of
from include.dossier.rollouts import under_way as rollout_under_way
from include.dossier.standing import standing_of
from include.dossier.subject import History, Subject, of_refused, of_version, read_history
from include.dossier.traffic import split_of, traffic_of, way_back
from include.errors import WindtunnelError
from include.release.judging import stage_input
from include.release.rollout import decide
from include.release.state import Rollout, find_stage
from include.settings import Settings

_Record = dict[str, Any]


def releases(settings: Settings, family: str, *, at: datetime, live: bool = True) -> _Record:
    """Everything about a family's releases, as JSON-serialisable values.

    Args:
        live: Ask the gateway how the stage that holds does so far.

    Returns:
        `family`, `as_of`, `now` (see `split_of`, or None while nothing serves), `rollback_to`, `rollout` (see
        `rollouts_of`, with `now`: what the gateway says of the stage that holds; None while none is under way),
        `versions` and `refused` (the newest first, each with its `standing`), `history` (all versions' times in the
        traffic, the newest first), `drill`.
    """
    history = read_history(settings, family)
    by_version: dict[str, list[_Record]] = {}
    for rollout in rollouts_of(history, None):
        by_version.setdefault(rollout["version"], []).append(rollout)
    under_way = rollout_under_way(history)
    if under_way is not None:
        under_way["now"] = _seen_now(settings, history, at) if live else None
    return {
        "family": family,
        "as_of": at.isoformat(),
        "now": split_of(history.route) if history.route else None,
        "rollback_to": way_back(history.routes),
        "rollout": under_way,
        "versions": [
            _row(history, of_version(row), by_version.get(row.version, [])) for row in reversed(history.versions)
        ],
        "refused": [_row(history, of_refused(family, one), []) for one in reversed(history.refused)],
        "history": traffic_of(history.routes, None)[::-1],
        "drill": drill_of(history),
    }


def _row(history: History, subject: Subject, rollouts: list[_Record]) -> _Record:
    """A version on one line."""
    version, record = subject.version, subject.record
    outcome = subject.refused.decision.output if subject.refused else {}
    return {
        "name": subject.name,
        "version": version.version if version else None,
        "kind": subject.kind,
        "digest": subject.digest,
        "verdict": version.verdict if version else outcome.get("verdict"),
        "change": record.get("change"),
        "change_why": record.get("change_why"),
        "dataset_version": subject.dataset_version,
        "registered_at": subject.registered_at.isoformat(),
        "rollouts": len(rollouts),
        "standing": standing_of(history, subject, rollouts),
    }


def _seen_now(settings: Settings, history: History, at: datetime) -> _Record | None:
    """How the stage that holds would be judged at this moment; None where no stage holds.

    Returns:
        `stage`, `verdict`, `wait`, `why`, `seconds`, `candidate`, `champion`, `budget`; or `unreachable` alone.
    """
    state, route = Rollout.under_way(history.ledger, history.family), history.route
    if state is None or route is None or not state.owns(route) or not route.table.stage:
        return None
    try:
        plan = state.plan
        stage = find_stage(plan, route.table.stage, history.family)
        given = stage_input(settings, plan, state, stage, route, at, state.control())
        if given["unreachable"]:
            return {"unreachable": given["unreachable"]}
        outcome: Mapping[str, Any] = decide(given)
    except (WindtunnelError, ValueError) as error:  # of a plan that another version of this code wrote down
        return {"unreachable": str(error)}
    names = ("verdict", "wait", "why", "budget")
    seen = {name: given[name] for name in ("seconds", "candidate", "champion")}
    return {"stage": stage.name, **{name: outcome.get(name) for name in names}, **seen}
