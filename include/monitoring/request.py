"""Puts the governor's decision on record: one per monitor run, with its input, its reasons and a ledger entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from include.release.decisions import decide
from include.release.ledger import Event, Ledger
from include.release.locks import exclusive
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.fingerprint import code_version
from include.store.database import open_database

_REMEMBERED = 200


def decide_retrain(
    settings: Settings,
    spec: FamilySpec,
    votes: Sequence[Mapping[str, Any]],
    *,
    run: str,
    actor: str,
    at: datetime,
) -> dict[str, Any]:
    """Whether a retrain is asked for; a run that is tried again gets the answer that it got before.

    Args:
        votes: What the monitors said: `monitor`, `asks`, `why`, `cause`.

    Returns:
        `fire`, `why` (sentences), `fingerprint` (of the cause), `monitors`, `decision_id`.
    """
    engine = open_database(settings.database_url)
    ledger, key = Ledger(engine), f"retrain:{run}"
    with exclusive(engine, f"retrain-{spec.family}"):  # two monitors must not both find the cooldown over
        known = ledger.entry(spec.family, key)
        if known is not None:
            return dict(known.record)
        route = ledger.route(spec.family)
        asked = ledger.entries(spec.family, frozenset({Event.RETRAIN_REQUESTED}), limit=_REMEMBERED)
        given = {
            "family": spec.family,
            "champion": route.table.champion.version if route else None,
            "votes": [dict(vote) for vote in votes],
            "requests": [{"at": entry.at.isoformat(), "fingerprint": entry.record["fingerprint"]} for entry in asked],
            "cooldown_hours": spec.monitoring.cooldown_hours,
            "now": at.isoformat(),
        }
        decision = decide(engine, spec.family, "retrain", given, code_version=code_version(), at=at)
        record = {**decision.output, "decision_id": decision.id}
        event = Event.RETRAIN_REQUESTED if record["fire"] else Event.RETRAIN_DECLINED
        ledger.append(spec.family, event, key=key, actor=actor, at=at, record=record)
    return record
