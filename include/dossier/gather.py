"""Puts a dossier together. The same ledger, registry and object store give the same document, but for `as_of`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from include.dossier.data import data_of, origins_of
from include.dossier.making import cost_of, search_of, training_of
from include.dossier.proof import documents_of, gates_of, quality_of
from include.dossier.rollouts import rollouts_of
from include.dossier.standing import standing_of
from include.dossier.stored import State, Stored, package_facts
from include.dossier.subject import History, Subject, find_subject, read_history
from include.dossier.traffic import traffic_of
from include.release.ledger import Entry, Event
from include.release.packages import verify_stored
from include.serving.package import PackageError
from include.settings import Settings
from include.steps.fingerprint import fingerprint
from include.store.objects import open_store

SCHEMA = 1
_NOT_LATER = frozenset({Event.REGISTERED, Event.DRILLED})

_Record = dict[str, Any]


def dossier(
    settings: Settings, family: str, version: str | None = None, *, at: datetime, verify: bool = False
) -> _Record:
    """Everything about one model version, as JSON-serialisable values.

    Args:
        version: A version, or for a candidate that its gates refused the start of its digest; None: what serves.
        at: The present moment. It is shown, and changes nothing else.
        verify: Read the whole package and hold every file against its digest; else its list of files alone.

    Returns:
        `schema`, `as_of`, `digest` (sha256 of all that follows), `family`, `subject`, `standing` (headline and state
        now), `problems` (sentences about what is missing, altered or recalled), `traffic`, `rollouts`, `later`,
        `version`, `gates`, `quality`, `search`, `training`, `cost`, `package`, `documents`, `data`, `lineage`, `drill`.

    Raises:
        UserError: There is no such version.
    """
    history = read_history(settings, family)
    subject, store = find_subject(history, version), open_store(settings.store_url)
    rollouts = rollouts_of(history, subject.version.version if subject.version else "")
    package = package_facts(store, family, subject.digest)
    if verify and package["stored"]["state"] == State.WHOLE.value:
        package["stored"] = _verified(settings, family, subject, package["stored"])
    facts: _Record = {
        "family": family,
        "subject": {
            "name": subject.name,
            "kind": subject.kind,
            "version": subject.version.version if subject.version else None,
            "digest": subject.digest,
        },
        "standing": standing_of(history, subject, rollouts),
        "problems": [],
        "traffic": traffic_of(history.routes, subject.version.version) if subject.version else [],
        "rollouts": rollouts,
        "later": _later(history, subject),
        "version": _version_facts(subject),
        "gates": gates_of(history.engine, subject),
        "quality": quality_of(subject),
        "search": search_of(store, subject),
        "training": training_of(store, subject),
        "cost": cost_of(store, subject),
        "package": {**package, "verified": verify},
        "documents": documents_of(store, subject),
        "data": data_of(settings, store, history, subject),
        "drill": drill_of(history),
    }
    facts["lineage"] = _lineage(history, subject, facts["data"])
    facts["problems"] = _problems(facts)
    plain: _Record = json.loads(json.dumps(facts, default=str))
    return {"schema": SCHEMA, "as_of": at.isoformat(), "digest": fingerprint(**plain), **plain}


def drill_of(history: History) -> _Record | None:
    """The family's last drill: `at`, `by` and its record; None where none was held."""
    entry = next((entry for entry in reversed(history.entries) if entry.event is Event.DRILLED), None)
    if entry is None:
        return None
    return {**entry.record, "champion": entry.model_version, "by": entry.actor, "at": entry.at.isoformat()}


def _verified(settings: Settings, family: str, subject: Subject, stored: Mapping[str, Any]) -> _Record:
    try:
        verify_stored(settings, family, subject.digest)
    except PackageError as error:
        why = f"the model package was altered: {error.message}"
        return Stored(str(stored["name"]), str(stored["key"]), subject.digest, State.ALTERED, why).to_json()
    return dict(stored)


def _version_facts(subject: Subject) -> _Record:
    """Number, why it has it, and what it was registered with."""
    row, record = subject.version, subject.record
    return {
        "version": row.version if row else None,
        "verdict": row.verdict if row else subject.refused.decision.output.get("verdict") if subject.refused else None,
        "change": record.get("change"),
        "change_why": record.get("change_why"),
        "registered_at": subject.registered_at.isoformat(),
        "releasable": row.releasable if row else False,
        "backfill": record.get("backfill"),
        "baseline": record.get("baseline"),
        "creator": record.get("creator"),
        "run": subject.run,
        "mlflow_version": row.mlflow_version if row else None,
        "code_version": record.get("code_version"),
        "fingerprint": row.fingerprint if row else None,
        "signature": record.get("signature"),
        "meaning": record.get("meaning"),
        "model": record.get("model"),
    }


def _later(history: History, subject: Subject) -> list[_Record]:
    """What happened to it outside of its rollouts: rollbacks from and to it, experiments, archiving."""
    found = []
    name = subject.version.version if subject.version else None
    for entry in history.entries:
        if entry.event in _NOT_LATER or entry.record.get("rollout") or not _concerns(entry, name, subject.digest):
            continue
        why = entry.record.get("reason") or "; ".join(map(str, entry.record.get("why") or []))
        to = entry.record.get("to")
        found.append(
            {
                "event": entry.event.value,
                "what": "took over again" if entry.event is Event.ROLLED_BACK and to == name else "",
                "to": to,
                "why": why,
                "by": entry.actor,
                "at": entry.at.isoformat(),
            }
        )
    return found


def _concerns(entry: Entry, version: str | None, digest: str) -> bool:
    if version is None or entry.model_version is None:  # before it had a number: archived, accepted
        if entry.record.get("digest") == digest:
            return True
        if version is None:
            return False
    design: Mapping[str, Any] = entry.record.get("design") or {}
    named = {entry.model_version, entry.record.get("to"), design.get("control"), *(design.get("challengers") or [])}
    return version in named


def _lineage(history: History, subject: Subject, data: Mapping[str, Any]) -> _Record:
    """Both ways: `up` (sources, dataset, models it came from), `down` (who came from it or was held against it)."""
    version = subject.version.version if subject.version else None
    made_from_it = [
        {"version": row.version, "role": role}
        for row in history.versions
        for role, origin in (row.record.get("origins") or {}).items()
        if origin.get("digest") == subject.digest
    ]
    compared = [row.version for row in history.versions if version and _compared_with(row.record) == version]
    begun = [entry for entry in history.entries if entry.event is Event.ROLLOUT_BEGUN]
    held = [entry.model_version for entry in begun if version and _compared_with(entry.record) == version]
    return {
        "up": {
            "sources": sorted(data["sources"]),
            "deliveries": len(data["deliveries"]),
            "dataset": f"{subject.family}:data@{subject.dataset_version}",
            "models": origins_of(subject.record),
        },
        "down": {
            "models": made_from_it,
            "compared_with": compared,
            "rollouts_against": list(dict.fromkeys(held)),
            "generations": [route.generation for route in history.routes if version in route.table.shares],
        },
    }


def _compared_with(record: Mapping[str, Any]) -> str | None:
    return (record.get("champion") or {}).get("version")


def _problems(facts: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing the rest, the worst first."""
    stored: Sequence[Mapping[str, Any]] = [
        facts["package"]["stored"],
        facts["data"]["manifest"],
        *facts["documents"],
        *(delivery["check"] for delivery in facts["data"]["deliveries"]),
    ]
    found = [
        f"recalled data: {recall['what']} ({recall['why']})" for recall in facts["data"]["recalls"] if recall["active"]
    ]
    found += [str(one["why"]) for one in stored if one["state"] == State.ALTERED.value]
    found += [str(one["why"]) for one in stored if one["state"] in {State.MISSING.value, State.UNREADABLE.value}]
    decision = (facts["gates"] or {}).get("decision") or {}
    if decision and not decision["found"]:
        found.append(f"the gates' decision {decision['id'][:12]} is not in the database")
    elif decision and not decision["intact"]:
        found.append(f"the gates' decision {decision['id'][:12]} was altered: its id is not that of its input")
    training = facts["training"]
    if training and not training["result"]:
        found.append(
            "the training's result is gone from the object store" if training["run"] else "its run is not known"
        )
    elif training and training["same_model"] is False:
        found.append("the stored result of its training run names another model")
    search = facts["search"]
    if search and facts["subject"]["kind"] == "candidate" and not search["results"]:
        found.append("the results of its search are gone from the object store")
    return found
