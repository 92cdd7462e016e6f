"""What a dossier is about: a registered version, or a candidate that its gates kept from becoming one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from include.errors import UserError
from include.release.decisions import Decision, list_decisions, read_decision
from include.release.ledger import Entry, Event, Ledger, Route
from include.release.registry import ModelVersion, list_versions
from include.settings import Settings
from include.store.database import open_database

_ALL = 1_000_000
_GATE = "gate"
_SHORT_DIGEST = re.compile(r"[0-9a-f]{6,64}")
_LISTED = 12


@dataclass(frozen=True)
class Refused:
    """A candidate that its gates refused; it has no version number.

    Attributes:
        archived: The ledger's entry; None where it went back to the sweep, and was not archived itself.
    """

    digest: str
    decision: Decision
    archived: Entry | None


@dataclass(frozen=True)
class History:
    """Everything that ledger and registry know of a family, the oldest first."""

    family: str
    engine: Engine
    ledger: Ledger
    entries: Sequence[Entry]
    routes: Sequence[Route]
    versions: Sequence[ModelVersion]
    refused: Sequence[Refused] = field(default=())

    @property
    def route(self) -> Route | None:
        """The routing table that holds."""
        return self.routes[-1] if self.routes else None


@dataclass(frozen=True)
class Subject:
    """What the dossier is about.

    Attributes:
        name: The version, or for a refused candidate the start of its digest.
        version: None for a refused candidate.
        record: The registered record; of a refused candidate what its decision and the ledger know.
        run: Name of the pipeline run that made it; None where nobody wrote it down.
        dataset_digest: None where it was not recorded.
        registered_at: For a refused candidate: when it was refused.
    """

    family: str
    name: str
    version: ModelVersion | None
    refused: Refused | None
    digest: str
    record: Mapping[str, Any]
    run: str | None
    dataset_version: str
    dataset_digest: str | None
    registered_at: datetime

    @property
    def kind(self) -> str:
        """`candidate`, `baseline` or `refused`."""
        if self.version is None:
            return "refused"
        return "baseline" if self.version.is_baseline else "candidate"


def read_history(settings: Settings, family: str) -> History:
    """Reads all of it: a family has some thousands of entries in years."""
    engine = open_database(settings.database_url)
    ledger = Ledger(engine)
    current = ledger.route(family)
    older = ledger.routes_before(family, current.generation, limit=_ALL) if current else []
    routes = [*reversed(older), *([current] if current else [])]
    entries = ledger.entries(family, limit=_ALL)[::-1]
    versions = list_versions(engine, family)
    return History(family, engine, ledger, entries, routes, versions, _refused(engine, family, entries, versions))


def find_subject(history: History, name: str | None) -> Subject:
    """The version `name`, or the refused candidate whose digest begins so; without a name what serves, or the newest.

    Raises:
        UserError: There is no such thing, or more than one.
    """
    family, versions = history.family, history.versions
    if name is None:
        if not versions:
            raise UserError(
                f"{family} has no model version yet",
                hint=_known([refused.digest[:12] for refused in history.refused], "refused candidates")
                or f"`windtunnel train {family}` makes one",
            )
        serving = history.route.table.champion.version if history.route else None
        return of_version(next((row for row in versions if row.version == serving), versions[-1]))
    for row in versions:
        if row.version == name:
            return of_version(row)
    if _SHORT_DIGEST.fullmatch(name):
        registered = [row for row in versions if row.digest.startswith(name)]
        refused = [candidate for candidate in history.refused if candidate.digest.startswith(name)]
        if len(registered) + len(refused) == 1:
            return of_version(registered[0]) if registered else of_refused(family, refused[0])
        if registered or refused:
            found = [row.version for row in registered] + [candidate.digest[:16] for candidate in refused]
            raise UserError(f"{name!r} is the start of more than one digest", hint=_known(found, "they are"))
    raise UserError(
        f"{family} has no version {name!r}",
        hint="; ".join(
            filter(
                None,
                [
                    _known([row.version for row in versions], "versions"),
                    _known([candidate.digest[:12] for candidate in history.refused], "refused candidates"),
                ],
            )
        )
        or "there is none yet",
    )


def of_version(row: ModelVersion) -> Subject:
    """The dossier's subject for a registered version."""
    record = row.record
    recorded = (record.get("dataset") or {}).get("digest")
    return Subject(
        row.family, row.version, row, None, row.digest, record, record.get("run"), row.dataset_version, recorded,
        row.registered_at,
    )  # fmt: skip


def of_refused(family: str, refused: Refused) -> Subject:
    """The dossier's subject for a candidate that its gates refused."""
    given, archived = refused.decision.input, refused.archived
    measured: Mapping[str, Any] = next(iter((given.get("splits") or {}).values()), {})
    known = archived.record if archived else {}
    record = {
        "metrics": measured.get("summary") or {},
        "comparisons": measured.get("comparisons") or {},
        "decision": refused.decision.id,
        "backfill": given.get("backfill"),
        "adjusted": given.get("adjust") or {},
        "code_version": refused.decision.code_version,
        **{name: known[name] for name in known if name.startswith(("report_", "card_"))},
        **({"creator": archived.actor} if archived else {}),
    }
    return Subject(
        family, refused.digest[:12], None, refused, refused.digest, record, known.get("run"),
        str(given.get("dataset_version")), (known.get("dataset") or {}).get("digest"), refused.decision.at,
    )  # fmt: skip


def decision_of(engine: Engine, decision_id: str | None) -> Decision | None:
    """The stored decision; None where there is none."""
    if not decision_id:
        return None
    try:
        return read_decision(engine, decision_id)
    except UserError:
        return None


def _refused(
    engine: Engine, family: str, entries: Sequence[Entry], versions: Sequence[ModelVersion]
) -> tuple[Refused, ...]:
    """Candidates that were judged and never registered, the oldest first."""
    registered = {row.digest for row in versions}
    archived = {entry.record.get("digest"): entry for entry in entries if entry.event is Event.ARCHIVED}
    judged: dict[str, Decision] = {}
    for decision in reversed(list_decisions(engine, family, _GATE, limit=_ALL)):
        digest = decision.input.get("candidate")
        if digest and digest not in registered and decision.output.get("verdict") != "PASS":
            judged[digest] = decision
    return tuple(Refused(digest, decision, archived.get(digest)) for digest, decision in judged.items())


def _known(names: Sequence[str], words: str) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{words}: {', '.join(names[-_LISTED:])}{more}"
