"""Where a gateway reads routing tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sqlalchemy import Engine, func, select

from include.release.ledger import Ledger, Route
from include.store import schema
from include.store.database import open_database


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
