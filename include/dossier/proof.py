"""What a candidate was let through, or refused, on: the gates' decision, measurements, report and card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine

from include.dossier.stored import read_checked
from include.dossier.subject import Subject, decision_of
from include.release.decisions import Decision
from include.steps.fingerprint import code_version, fingerprint
from include.store.objects import ObjectStore

_DOCUMENTS = {"report": "evaluation report", "card": "model card"}

_Record = dict[str, Any]


def decision_facts(decision: Decision | None, decision_id: str | None) -> _Record | None:
    """A stored decision: `id`, `kind`, `at`, `code_version`, `found`, `intact` (its id is that of its input),
    `code_changed` (a replay may differ), `replay` (the command)."""
    if not decision_id:
        return None
    command = f"windtunnel replay {decision_id[:16]}"
    if decision is None:
        return {"id": decision_id, "found": False, "intact": False, "replay": command}
    made = fingerprint(family=decision.family, kind=decision.kind, input=decision.input, code=decision.code_version)
    return {
        "id": decision.id,
        "kind": decision.kind,
        "at": decision.at.isoformat(),
        "code_version": decision.code_version,
        "found": True,
        "intact": made == decision.id,
        "code_changed": decision.code_version != code_version(),
        "replay": command,
    }


def gates_of(engine: Engine, subject: Subject) -> _Record | None:
    """The gates' decision; None for a baseline, which no gate was asked about.

    Returns:
        `decision` (see `decision_facts`), `verdict`, `accepted` ({actor, reason, at} of who took it in spite of open
        gates, or None), `attempt`, `max_attempts`, `confidence`, `champion` (version that it was compared with, or
        None), `why`, `n_needed`, `next`, `gates` (records of `GateResult`, with `operator`, `threshold`, `reference`
        and `margin` as they were asked).
    """
    decision_id = subject.record.get("decision")
    if not decision_id:
        return None
    decision = decision_of(engine, decision_id)
    facts, accepted = decision_facts(decision, decision_id), subject.record.get("accepted")
    if decision is None:
        verdict = subject.version.verdict if subject.version else None
        return {"decision": facts, "verdict": verdict, "accepted": accepted, "gates": []}
    asked = {gate.get("name"): gate for gate in decision.input.get("gates") or []}
    output = decision.output
    return {
        "decision": facts,
        "verdict": output.get("verdict"),
        "accepted": accepted,
        "attempt": decision.input.get("attempt"),
        "max_attempts": decision.input.get("max_attempts"),
        "confidence": decision.input.get("confidence"),
        "champion": decision.input.get("champion"),
        "why": list(output.get("why") or []),
        "n_needed": output.get("n_needed"),
        "next": output.get("next"),
        "gates": [{**_asked(asked.get(gate.get("name")) or {}), **gate} for gate in output.get("gates") or []],
    }


def quality_of(subject: Subject) -> _Record:
    """Measurements on the test split: `metrics`, `comparisons` (reference -> metric -> paired difference),
    `baselines`, `champion` (compared with), `selective`."""
    record = subject.record
    names = ("metrics", "comparisons", "baselines", "champion", "selective")
    return {name: record.get(name) or None for name in names}


def documents_of(store: ObjectStore, subject: Subject) -> list[_Record]:
    """Report and card: where they lie and whether they are what was registered."""
    found = []
    for short, name in _DOCUMENTS.items():
        key = subject.record.get(f"{short}_key")
        if key:
            digest = subject.record.get(f"{short}_digest")
            found.append(read_checked(store, name, key, digest)[0].to_json())
    return found


def _asked(gate: Mapping[str, Any]) -> _Record:
    return {name: gate.get(name) for name in ("operator", "threshold", "reference", "margin")}
