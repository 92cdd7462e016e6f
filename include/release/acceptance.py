"""A person's word on a candidate that its gates left open: more evaluation was not to be had, and somebody must decide.

INCONCLUSIVE never ships by itself. When the rounds of a run are over, what a registration needs is kept with the
archived candidate; a person who accepts it gives a reason, which stands in the ledger before anything follows from it.
What FAILED cannot be accepted: change the gate in the spec, where it is reviewed.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from include.errors import UserError
from include.evaluation.documents import Document, keep, read
from include.evaluation.gates import Verdict
from include.release.candidate import champion, register_candidate
from include.release.decisions import read_decision
from include.release.ledger import Entry, Event, Ledger
from include.settings import Settings
from include.spec.models import FamilySpec
from include.store.database import open_database
from include.store.objects import ObjectStore, open_store

_Record = dict[str, Any]
MATERIAL = "material"


def keep_material(store: ObjectStore, spec: FamilySpec, **parts: Any) -> _Record:
    """Keeps what a registration needs; returns where, for the ledger's record of the archived candidate."""
    data = json.dumps({"spec": spec.model_dump(mode="json"), **parts}, allow_nan=False, default=str).encode()
    kept = keep(store, spec.family, "archived.json", data)
    return {f"{MATERIAL}_key": kept.key, f"{MATERIAL}_digest": kept.digest}


def accept(settings: Settings, family: str, decision: str, *, reason: str, actor: str, at: datetime) -> _Record:
    """Registers the archived candidate of an inconclusive decision. Can be repeated; the first reason holds.

    Returns:
        As `register_candidate`, with `decision`, `open` (sentences of the gates that were left open), `actor`, `reason`
        and `note` (where another champion serves than the one it was compared with, else "").

    Raises:
        UserError: The decision is another's, was not inconclusive, or a next round followed it.
        DataError: What was kept, or its report, was changed, or its data was recalled.
    """
    engine = open_database(settings.database_url)
    stored = read_decision(engine, decision)
    if stored.kind != "gate" or stored.family != family:
        raise UserError(f"{stored.id[:12]} is no verdict on a candidate of {family}", hint="see `windtunnel ledger`")
    verdict = stored.output["verdict"]
    if verdict != Verdict.INCONCLUSIVE.value:
        raise UserError(
            f"the verdict is {verdict}: only what was left open can be accepted",
            where=f"decision {stored.id[:12]}",
            hint="a gate that asks too much is changed in the spec",
        )
    ledger = Ledger(engine)
    archived = _archived(ledger, family, stored.id)
    place = Document(str(archived.record[f"{MATERIAL}_key"]), str(archived.record[f"{MATERIAL}_digest"]))
    kept = json.loads(read(open_store(settings.store_url), place))
    key = f"accepted:{stored.id}"
    said = {"decision": stored.id, "digest": archived.record["digest"], "reason": reason}
    ledger.append(family, Event.ACCEPTED, key=key, actor=actor, at=at, record=said)
    entry = ledger.entry(family, key)
    assert entry is not None  # it was just added, or was there
    given = {"actor": entry.actor, "reason": entry.record["reason"], "at": entry.at.isoformat()}
    arguments = {name: kept[name] for name in ("run", "dataset", "sweep", "fit", "evaluation", "decision", "backfill")}
    spec = FamilySpec.model_validate(kept["spec"])
    done = register_candidate(settings, spec, **arguments, actor=kept["actor"], at=at, accepted=given)
    open_gates = [gate["why"] for gate in stored.output["gates"] if gate["blocks"]]
    return {**done, "decision": stored.id, "open": open_gates, **given, "note": _note(settings, family, kept)}


def _archived(ledger: Ledger, family: str, decision: str) -> Entry:
    entries = ledger.entries(family, frozenset({Event.ARCHIVED}), limit=10_000)
    for entry in entries:
        if entry.record.get("decision") == decision and f"{MATERIAL}_key" in entry.record:
            return entry
    raise UserError(
        "the candidate of this decision was not archived: another round followed it",
        where=f"decision {decision[:12]}",
        hint="wait for the last round; `windtunnel ledger` shows it",
    )


def _note(settings: Settings, family: str, kept: _Record) -> str:
    compared, serving = kept["evaluation"].get("champion"), champion(settings, family)
    if not serving or (compared and compared["version"] == serving["version"]):
        return ""
    return f"{serving['version']} serves by now; it was compared with {compared['version'] if compared else 'none'}"
