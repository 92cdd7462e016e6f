"""The release ledger: what happened, and what serves. Append-only; changes of traffic are compare-and-swap.

`append` adds an event once per `event_key`, so that a retried task does not tell the story twice. `swap_route` inserts
generation N + 1 of the routing table and fails when somebody else did so first: whoever decides on the basis of
generation N can only act if N still holds. Nothing is ever changed, so the ledger can also say what served at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import Engine, RowMapping, Select, Table, desc, insert, select
from sqlalchemy.exc import IntegrityError

from include.errors import WindtunnelError, clip
from include.release.routing import RoutingTable
from include.store import schema

#: Names of those who did something are cut to this.
ACTOR_LENGTH = 256


class StaleRoute(WindtunnelError):
    """Somebody else changed the traffic since it was read; `fields` hold both generations."""


class Event(str, Enum):
    """Kinds of ledger entries."""

    DATASET_PUBLISHED = "dataset_published"
    ROWS_RELEASED = "rows_released"  # out of quarantine, by a person
    PAIRS_REVIEWED = "pairs_reviewed"  # by people, in one review
    DATASET_RECALLED = "dataset_recalled"
    RECALL_LIFTED = "recall_lifted"
    REGISTERED = "registered"
    ARCHIVED = "archived"
    ACCEPTED = "accepted"  # by a person, what its gates left open
    BOOTSTRAPPED = "bootstrapped"
    ROLLOUT_BEGUN = "rollout_begun"
    LOAD_CHECKED = "load_checked"  # in a process of its own, before any traffic
    STAGE_ENTERED = "stage_entered"
    STAGE_JUDGED = "stage_judged"
    STAGE_BEGUN = "stage_begun"  # its traffic may move; no pause comes before it any more
    PAUSED = "paused"  # a rollout, by a person; as the four that follow
    RESUMED = "resumed"
    WAVED_ON = "waved_on"
    APPROVED = "approved"
    REJECTED = "rejected"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    EXPERIMENT_DECLARED = "experiment_declared"
    EXPERIMENT_STARTED = "experiment_started"
    EXPERIMENT_STOPPED = "experiment_stopped"
    DRILLED = "drilled"  # a bad model was released to a target of its own
    RETRAIN_REQUESTED = "retrain_requested"
    RETRAIN_DECLINED = "retrain_declined"


@dataclass(frozen=True)
class Entry:
    """One ledger entry."""

    id: int
    family: str
    event: Event
    model_version: str | None
    actor: str
    record: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True)
class Route:
    """A generation of a family's routing table."""

    generation: int
    table: RoutingTable
    reason: str
    actor: str
    at: datetime


class Ledger:
    """Reads and appends; one object may be shared by threads.

    Args:
        tell: Called with every entry that `append` added; must not raise.
    """

    def __init__(self, engine: Engine, tell: Callable[[Entry], None] | None = None) -> None:
        self._engine = engine
        self._tell = tell

    def append(
        self,
        family: str,
        event: Event,
        *,
        key: str,
        actor: str,
        at: datetime,
        model_version: str | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> bool:
        """Adds an entry. False where an entry with this `key` is already there (then nothing changes)."""
        table = schema.ledger
        values = {
            "family": family,
            "event": event.value,
            "model_version": model_version,
            "actor": clip(actor, ACTOR_LENGTH),
            "event_key": key,
            "record": dict(record or {}),
            "at": at,
        }
        duplicate = select(table.c.id).where(table.c.family == family, table.c.event_key == key)
        added = self._insert(table, values, duplicate)
        if added and self._tell is not None and (entry := self.entry(family, key)) is not None:
            self._tell(entry)
        return added

    def entry(self, family: str, key: str) -> Entry | None:
        """The entry that was appended with `key`."""
        table = schema.ledger
        rows = self._rows(select(table).where(table.c.family == family, table.c.event_key == key))
        return _entry(rows[0]) if rows else None

    def entries(self, family: str, events: frozenset[Event] | None = None, limit: int = 100) -> list[Entry]:
        """The newest entries first."""
        table = schema.ledger
        query = select(table).where(table.c.family == family).order_by(desc(table.c.id)).limit(limit)
        if events is not None:
            query = query.where(table.c.event.in_([event.value for event in events]))
        return [_entry(row) for row in self._rows(query)]

    def series(self, family: str, prefix: str) -> list[Entry]:
        """The entries whose keys begin with `prefix`, the oldest first."""
        table = schema.ledger
        begins = table.c.event_key.startswith(prefix, autoescape=True)
        return [
            _entry(row)
            for row in self._rows(select(table).where(table.c.family == family, begins).order_by(table.c.id))
        ]

    def route(self, family: str, generation: int | None = None) -> Route | None:
        """The routing table that holds (or the given generation of it); None before anything served."""
        table = schema.routes
        query = select(table).where(table.c.family == family).order_by(desc(table.c.generation)).limit(1)
        if generation is not None:
            query = query.where(table.c.generation == generation)
        rows = self._rows(query)
        return _route(rows[0]) if rows else None

    def routes_before(self, family: str, generation: int, limit: int = 1000) -> list[Route]:
        """Routing tables older than `generation`, the newest first."""
        table = schema.routes
        older = select(table).where(table.c.family == family, table.c.generation < generation)
        return [_route(row) for row in self._rows(older.order_by(desc(table.c.generation)).limit(limit))]

    def served_at(self, family: str, moment: datetime) -> Route | None:
        """The routing table that held at `moment`; None where nothing served yet."""
        table = schema.routes
        until = select(table).where(table.c.family == family, table.c.at <= moment)
        rows = self._rows(until.order_by(desc(table.c.generation)).limit(1))
        return _route(rows[0]) if rows else None

    def swap_route(
        self, family: str, expected: int, table: RoutingTable, *, reason: str, actor: str, at: datetime
    ) -> int:
        """Makes `table` the routing table, if `expected` is still the newest generation (0: there is none yet).

        Returns the new generation. Raises `StaleRoute` and changes nothing otherwise.
        """
        current = self.route(family)
        newest = current.generation if current else 0
        routes = schema.routes
        values = {
            "family": family,
            "generation": expected + 1,
            "table": table.model_dump(mode="json"),
            "reason": clip(reason, 256),
            "actor": clip(actor, ACTOR_LENGTH),
            "at": at,
        }
        taken = select(routes.c.generation).where(routes.c.family == family, routes.c.generation == expected + 1)
        if newest != expected or not self._insert(routes, values, taken):
            raise StaleRoute(
                f"the traffic of {family} was changed by someone else",
                hint="read the current state with `windtunnel status` and decide again",
                expected=expected,
                newest=newest if newest != expected else expected + 1,
            )
        return expected + 1

    def _rows(self, query: Select[Any]) -> list[RowMapping]:
        with self._engine.connect() as connection:
            return list(connection.execute(query).mappings().all())

    def _insert(self, table: Table, values: dict[str, Any], duplicate: Select[Any]) -> bool:
        """False where `duplicate` finds a row that was there first; any other broken constraint is raised."""
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(table).values(**values))
        except IntegrityError:
            if not self._rows(duplicate):
                raise
            return False
        return True


def _entry(row: RowMapping) -> Entry:
    event = Event(row["event"])
    return Entry(row["id"], row["family"], event, row["model_version"], row["actor"], row["record"], row["at"])


def _route(row: RowMapping) -> Route:
    table = RoutingTable.model_validate(row["table"])
    return Route(row["generation"], table, row["reason"], row["actor"], row["at"])
