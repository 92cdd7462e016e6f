"""Where a gateway reads routing tables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from sqlalchemy import Engine, func, select

from include.errors import UserError
from include.release.ledger import Ledger, Route
from include.release.routing import RoutingTable
from include.store import schema
from include.store.database import open_database

#: `family@digest`: the gateway serves this one model, whatever else the family's routing table names.
ONLY_VARIABLE = "WINDTUNNEL_GATEWAY_ONLY"


class RouteSource(Protocol):
    """Where routing tables come from. Any method may raise `SQLAlchemyError` or `WindtunnelError` while it is away."""

    def newest(self) -> Mapping[str, int]:
        """Family -> its newest generation."""
        ...

    def route(self, family: str, generation: int) -> Route | None: ...


class LedgerRoutes:
    """Routing tables from the ledger database, opened when it is first reachable."""

    def __init__(self, url: str) -> None:
        self._url = url

    def newest(self) -> Mapping[str, int]:
        query = select(schema.routes.c.family, func.max(schema.routes.c.generation)).group_by(schema.routes.c.family)
        with self._engine().connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def route(self, family: str, generation: int) -> Route | None:
        return Ledger(self._engine()).route(family, generation)

    def _engine(self) -> Engine:
        return open_database(self._url)  # one per process and URL


class OneModel:
    """The part of one model in a family's routing tables: what serves where somebody else splits the traffic.

    The model answers everything that comes here, under the role and the generation that the ledger gives it. Once the
    routing table does not name it any more, the last one that did holds.
    """

    def __init__(self, source: RouteSource, family: str, digest: str) -> None:
        self._source, self._family, self._digest = source, family, digest
        self._last = 0

    def newest(self) -> Mapping[str, int]:
        generation = self._source.newest().get(self._family, 0)
        if generation != self._last and self.route(self._family, generation) is not None:
            self._last = generation
        return {self._family: self._last} if self._last else {}

    def route(self, family: str, generation: int) -> Route | None:
        found = self._source.route(family, generation)
        table = part_of(found.table, self._digest) if found else None
        return replace(found, table=table) if found and table else None


def part_of(table: RoutingTable, digest: str) -> RoutingTable | None:
    """The table in which the model `digest` answers everything, in the role that it has; None where it has none."""
    variant = next((variant for variant in table.variants if variant.digest == digest), None)
    if variant is None:
        return None
    return RoutingTable(champion=variant, stage=table.stage, rollout=table.rollout)


def open_routes(url: str, environ: Mapping[str, str] | None = None) -> RouteSource:
    """The ledger's routing tables, or the part of one model in them.

    Raises:
        UserError: The variable names no model.
    """
    only, ledger = (os.environ if environ is None else environ).get(ONLY_VARIABLE), LedgerRoutes(url)
    if not only:
        return ledger
    family, _, digest = only.partition("@")
    if not family or not digest:
        raise UserError(f"{only!r} names no model", where=ONLY_VARIABLE, hint="write family@digest")
    return OneModel(ledger, family, digest)
