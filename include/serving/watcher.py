"""Follows the ledger: new generation of a routing table -> models loaded -> one assignment makes it the table.

The old table serves until the new one is ready, and goes on serving when it never becomes ready or when the ledger is
away. Models stay loaded as long as a table needs them; the last ones that none needs stay a little longer, so that a
rollback does not wait for loading.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from include.errors import WindtunnelError, clip
from include.release.ledger import Ledger, Route
from include.release.routing import RoutingTable
from include.serving.models import LoadedTable, Model, ModelLoader
from include.store import schema
from include.store.database import open_database

log = logging.getLogger(__name__)

_SPARE_MODELS = 2
_RETRY_FIRST, _RETRY_MOST = 1.0, 30.0


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


@dataclass(frozen=True)
class Failure:
    """A generation that could not be loaded, and when it is tried again (`clock` seconds)."""

    generation: int
    error: str
    again_at: float
    pause: float


class Watcher:
    """Keeps `tables` at the newest generations that could be loaded.

    Args:
        on_open: Called with every table just before it starts to serve.
        clock: Monotonic seconds, for the pauses between attempts.
    """

    def __init__(
        self,
        source: RouteSource,
        loader: ModelLoader,
        on_open: Callable[[LoadedTable], None],
        poll_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._loader = loader
        self._on_open = on_open
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._models: OrderedDict[str, Model] = OrderedDict()  # by digest, least recently needed first
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="route-watcher", daemon=True)
        self.tables: Mapping[str, LoadedTable] = MappingProxyType({})
        self.failed: Mapping[str, Failure] = MappingProxyType({})
        self.ledger_error = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def poll(self) -> None:
        """Looks once, and loads what is new. Raises nothing: what went wrong is in `failed` and `ledger_error`."""
        try:
            for family, generation in sorted(self._source.newest().items()):
                serving = self.tables.get(family)
                if serving is None or serving.generation != generation or serving.degraded:
                    self._follow(family, generation)
            self.ledger_error = ""
        except (SQLAlchemyError, WindtunnelError) as error:
            if not self.ledger_error:
                log.warning("the ledger cannot be read, serving goes on as it is: %s", error)
            self.ledger_error = clip(error, 200)

    def model(self, family: str, digest: str) -> Model | None:
        """The model with this digest if it is loaded, else the family's champion."""
        found = self._models.get(digest)
        if found is None and (table := self.tables.get(family)):
            found = table.models[table.table.champion.digest]
        return found

    @property
    def models(self) -> list[Model]:
        """All loaded models."""
        return list(self._models.values())

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except (
                Exception,
                SystemExit,
            ):  # this thread must outlive whatever it meets, or the gateway would never change again
                log.exception("the route watcher met an error that it does not know")
            self._stop.wait(self._poll_seconds)

    def _follow(self, family: str, generation: int) -> None:
        failure = self.failed.get(family)
        if failure and failure.generation == generation and self._clock() < failure.again_at:
            return
        route = self._source.route(family, generation)
        if route is None:
            return
        started = self._clock()
        try:
            loaded = self._load(family, route)
        except (Exception, SystemExit) as error:  # a package's code may raise anything; the old table must stay
            self._fail(family, generation, f"{type(error).__name__}: {error}")
            self._serve_champion_alone(family, route)
            return
        self._swap(loaded)
        log.info("%s: generation %d serves, loaded in %.2f s", family, generation, self._clock() - started)

    def _load(self, family: str, route: Route) -> LoadedTable:
        models = {}
        for variant in route.table.variants:
            models[variant.digest] = self._models.get(variant.digest) or self._loader.load(family, variant.digest)
        return LoadedTable(family, route.generation, route.table, models)

    def _serve_champion_alone(self, family: str, route: Route) -> None:
        """After a restart there is no old table: if only a challenger is broken, the champion must still answer."""
        if family in self.tables or len(route.table.variants) == 1:
            return
        alone = RoutingTable(champion=route.table.champion, stage=route.table.stage, rollout=route.table.rollout)
        try:
            model = self._loader.load(family, alone.champion.digest)
        except (Exception, SystemExit) as error:  # as above; the failure is already shown
            log.warning("%s: the champion cannot be loaded either: %s", family, error)
            return
        reason = self.failed[family].error
        self._swap(LoadedTable(family, route.generation, alone, {model.digest: model}, degraded=reason), healed=False)

    def _swap(self, loaded: LoadedTable, *, healed: bool = True) -> None:
        self._on_open(loaded)
        self._remember(loaded)
        if healed:
            self.failed = MappingProxyType(
                {name: value for name, value in self.failed.items() if name != loaded.family}
            )
        self.tables = MappingProxyType({**self.tables, loaded.family: loaded})

    def _fail(self, family: str, generation: int, error: str) -> None:
        before = self.failed.get(family)
        again = before is not None and before.generation == generation
        pause = min(before.pause * 2, _RETRY_MOST) if before and again else _RETRY_FIRST
        self.failed = MappingProxyType(
            {**self.failed, family: Failure(generation, clip(error), self._clock() + pause, pause)}
        )
        log.error("%s: generation %d cannot be loaded, the old table goes on serving: %s", family, generation, error)

    def _remember(self, loaded: LoadedTable) -> None:
        tables = [table for table in self.tables.values() if table.family != loaded.family] + [loaded]
        needed = {digest for table in tables for digest in table.models}
        models = OrderedDict(self._models)
        for digest, model in loaded.models.items():
            models[digest] = model
            models.move_to_end(digest)
        spare = [digest for digest in models if digest not in needed]
        for digest in spare[: max(0, len(spare) - _SPARE_MODELS)]:
            del models[digest]
        self._models = models
        gc.freeze()  # a loaded model is large and permanent: the collector need not walk through it on every round

    def to_json(self) -> dict[str, dict[str, Any]]:
        """What `/v1/routes` shows: per family the table that serves, and what failed."""
        shown: dict[str, dict[str, Any]] = {}
        for family in sorted(self.tables.keys() | self.failed.keys()):
            table, failure = self.tables.get(family), self.failed.get(family)
            shown[family] = {
                "generation": table.generation if table else None,
                "table": table.table.model_dump(mode="json") if table else None,
                "degraded": bool(table and table.degraded),
                "failed": {"generation": failure.generation, "error": failure.error} if failure else None,
                "ledger_error": self.ledger_error or None,
            }
        return shown
