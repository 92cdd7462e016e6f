"""Decisions on record: the input, the output and the code that made one of the other, so that it can be replayed.

A decision is a pure function from a JSON record to a JSON record. What was decided, and on the basis of what, is stored
before anybody acts on it. `replay` answers "what if": the same input with some values changed, by today's code.
"""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Engine, desc, insert, select
from sqlalchemy.exc import IntegrityError

from include.errors import UserError, clip
from include.release.paths import change_at
from include.steps.fingerprint import code_version as current_code
from include.steps.fingerprint import fingerprint
from include.store import schema

Record = dict[str, Any]

#: Kind of decision -> the pure function that makes it.
KINDS: Mapping[str, str] = {
    "gate": "include.release.verdict:judge",
    "stage": "include.release.rollout:decide",
    "experiment": "include.release.experiments.analysis:decide",
    "retrain": "include.monitoring.governor:decide",
}


@dataclass(frozen=True)
class Decision:
    """A stored decision."""

    id: str
    family: str
    kind: str
    code_version: str
    input: Record
    output: Record
    at: datetime


def decide(engine: Engine, family: str, kind: str, given: Record, *, code_version: str, at: datetime) -> Decision:
    """Makes the decision `kind` on `given` and stores it. The same input and code give the same stored decision."""
    plain = _as_stored(given)
    output = _as_stored(_function(kind)(copy.deepcopy(plain)))
    decision = Decision(
        id=fingerprint(family=family, kind=kind, input=plain, code=code_version),
        family=family,
        kind=kind,
        code_version=code_version,
        input=plain,
        output=output,
        at=at,
    )
    try:
        with engine.begin() as connection:
            connection.execute(insert(schema.decisions).values(**vars(decision)))
    except IntegrityError:
        return read_decision(engine, decision.id)
    return decision


def read_decision(engine: Engine, decision_id: str) -> Decision:
    """The stored decision; `decision_id` may be shortened as long as it is unique.

    Raises:
        UserError: There is none, or more than one.
    """
    table = schema.decisions
    query = select(table).where(table.c.id.startswith(decision_id, autoescape=True)).limit(2)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    if len(rows) != 1:
        problem = "there is no decision" if not rows else "there is more than one decision"
        raise UserError(f"{problem} {decision_id!r}", hint="`windtunnel ledger` shows the ids of decisions")
    return Decision(**rows[0])


def list_decisions(engine: Engine, family: str, kind: str | None = None, limit: int = 50) -> list[Decision]:
    """The newest decisions first."""
    table = schema.decisions
    query = select(table).where(table.c.family == family).order_by(desc(table.c.at)).limit(limit)
    if kind is not None:
        query = query.where(table.c.kind == kind)
    with engine.connect() as connection:
        return [Decision(**row) for row in connection.execute(query).mappings()]


def replay(engine: Engine, decision_id: str, changes: Mapping[str, Any] | None = None) -> Record:
    """Makes a stored decision again, with `changes` to its input, and stores nothing.

    Args:
        changes: Path -> new value: dotted, such as `gates.0.margin`; in a list of named things their name will do
            (`gates.floor.threshold`); a single name such as `margin` means it wherever the input gives it a value.

    Returns:
        `decision`, `kind`, `before` (stored output), `after` (output now), `same` (whether they agree), `code_changed`,
        `changed` (full path -> [value before, value after]).

    Raises:
        UserError: There is no such decision, a path leads nowhere, or the changed input makes no sense.
    """
    stored = read_decision(engine, decision_id)
    given = copy.deepcopy(stored.input)
    changed: Record = {}
    for path, value in (changes or {}).items():
        changed |= change_at(given, path, value)
    try:
        after = _as_stored(_function(stored.kind)(given))
    except (ValueError, TypeError, KeyError) as error:
        if not changed:
            raise
        raise UserError(
            f"no decision can be made with that: {clip(error, 300)}", where=", ".join(changed), hint="set another value"
        ) from error
    return {
        "decision": stored.id,
        "kind": stored.kind,
        "changed": changed,
        "before": stored.output,
        "after": after,
        "same": after == stored.output,
        "code_changed": current_code() != stored.code_version,
    }


def _as_stored(record: Record) -> Record:
    """The record as it comes back from the database: tuples are lists there. Raises `ValueError` for NaN."""
    return cast("Record", json.loads(json.dumps(record, allow_nan=False)))


def _function(kind: str) -> Callable[[Record], Record]:
    if kind not in KINDS:
        raise UserError(f"there is no kind of decision {kind!r}", hint=f"known: {', '.join(sorted(KINDS))}")
    module, _, name = KINDS[kind].partition(":")
    return cast("Callable[[Record], Record]", getattr(importlib.import_module(module), name))
