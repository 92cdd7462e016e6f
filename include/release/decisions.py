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

from include.errors import UserError
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
    plain = cast("Record", json.loads(json.dumps(given, allow_nan=False)))
    output = _function(kind)(plain)
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
        changes: Dotted path -> new value, such as `{"gates.0.margin": 0.05}`.

    Returns:
        `decision`, `kind`, `before` (stored output), `after` (output now), `same` (whether they agree), `code_changed`.

    Raises:
        UserError: There is no such decision, or a path leads nowhere.
    """
    stored = read_decision(engine, decision_id)
    given = copy.deepcopy(stored.input)
    for path, value in (changes or {}).items():
        _set(given, path, value)
    after = _function(stored.kind)(given)
    return {
        "decision": stored.id,
        "kind": stored.kind,
        "before": stored.output,
        "after": after,
        "same": after == stored.output,
        "code_changed": current_code() != stored.code_version,
    }


def _function(kind: str) -> Callable[[Record], Record]:
    if kind not in KINDS:
        raise UserError(f"there is no kind of decision {kind!r}", hint=f"known: {', '.join(sorted(KINDS))}")
    module, _, name = KINDS[kind].partition(":")
    return cast("Callable[[Record], Record]", getattr(importlib.import_module(module), name))


def _set(record: Record, path: str, value: Any) -> None:
    at: Any = record
    parts = path.split(".")
    for depth, part in enumerate(parts):
        key: Any = int(part) if isinstance(at, list) and part.isdigit() else part
        try:
            if depth + 1 < len(parts):
                at = at[key]
            else:
                at[key]  # a new key would be ignored or refused later; a misspelt one must be told here
                at[key] = value
        except (KeyError, IndexError, TypeError):
            known = (
                ", ".join(map(str, at))
                if isinstance(at, dict)
                else f"0 to {len(at) - 1}"
                if isinstance(at, list)
                else "-"
            )
            raise UserError(
                f"the decision's input has no {path!r}", where=".".join(parts[:depth]), hint=f"here: {known}"
            ) from None
