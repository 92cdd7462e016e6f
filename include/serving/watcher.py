"""Follows the ledger: new generation of a table -> models loaded -> all workers of the gateway change to it together.

The old table serves until every worker has the new one, and goes on serving when that never happens or when the ledger
is away. The worker that leads reads the ledger; the others load what has proven to load there. Models stay loaded as
long as a table needs them; the last ones that none needs stay a little longer, so that a rollback does not wait for
loading.
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
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from include.errors import WindtunnelError, clip
from include.release.ledger import Route
from include.release.routing import RoutingTable
from include.serving.board import stamp_of
from include.serving.crew import Report
from include.serving.models import LoadedTable, Model, ModelLoader
from include.serving.route_source import RouteSource
from include.serving.seat import AloneSeat, Seat

log = logging.getLogger(__name__)

_SPARE_MODELS = 2
_JOIN_SECONDS = 1.0  # a model that is being loaded when the gateway stops is not waited for
_RETRY_FIRST, _RETRY_MOST = 1.0, 30.0


@dataclass(frozen=True)
class Failure:
    """A table that could not be loaded, and when it is tried again (`clock` seconds)."""

    generation: int
    error: str
    again_at: float
    pause: float


class Watcher:
    """Keeps loaded what the gateway serves, and loads what it will serve.

    Args:
        on_open: Called with every table before it can serve.
        clock: Monotonic seconds, for the pauses between attempts.
        seat: This process' place among the gateway's workers; by default it is the only one.
    """

    def __init__(
        self,
        source: RouteSource,
        loader: ModelLoader,
        on_open: Callable[[LoadedTable], None],
        poll_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        seat: Seat | None = None,
    ) -> None:
        self._source = source
        self._loader = loader
        self._on_open = on_open
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._seat = seat or AloneSeat()
        self._board = self._seat.board
        self._models: OrderedDict[str, Model] = OrderedDict()  # by digest, least recently needed first
        self._held: Mapping[str, Mapping[int, LoadedTable]] = MappingProxyType({})  # by family and stamp
        self._failures: Mapping[tuple[str, int], Failure] = MappingProxyType({})  # by family and stamp
        self._told = Report()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="route-watcher", daemon=True)
        self.ledger_error = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._seat.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=_JOIN_SECONDS)

    def serving(self, family: str) -> LoadedTable | None:
        """The table that answers requests which come in now."""
        while held := self._held.get(family):
            stamp = self._board.committed(family)
            found = held.get(stamp)
            if found is not None or stamp == self._board.committed(family):
                return found
        return None

    @property
    def tables(self) -> Mapping[str, LoadedTable]:
        """The tables of all families that serve."""
        return {family: table for family in self._held if (table := self.serving(family))}

    @property
    def failed(self) -> Mapping[str, Failure]:
        """By family, the newest generation that could not be loaded here."""
        return {family: failure for (family, _), failure in sorted(self._failures.items())}

    @property
    def models(self) -> list[Model]:
        """All loaded models."""
        return list(self._models.values())

    def model(self, family: str, digest: str) -> Model | None:
        """The model with this digest if it is loaded, else the family's champion."""
        found = self._models.get(digest)
        if found is None and (table := self.serving(family)):
            found = table.models[table.table.champion.digest]
        return found

    def route(self, family: str, generation: int) -> RoutingTable | None:
        """A generation's routing table, from the ledger where it is not loaded; None where there is no such generation.

        Raises:
            SQLAlchemyError, WindtunnelError: The ledger is away.
        """
        for table in self._held.get(family, {}).values():
            if table.generation == generation and not table.degraded:
                return table.table
        found = self._source.route(family, generation)
        return found.table if found else None

    def poll(self) -> None:
        """Looks once, and loads what is new. Raises nothing: what went wrong is in `failed` and `ledger_error`."""
        try:
            complete = self._look()
            self.ledger_error = ""
        except (SQLAlchemyError, WindtunnelError) as error:
            if not self.ledger_error:
                log.warning("the ledger cannot be read, serving goes on as it is: %s", error)
            self.ledger_error = clip(error, 200)
            complete = False
        self._drop_old()
        self._tell(caught_up=complete)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except (
                Exception,
                SystemExit,
            ):  # this thread must outlive whatever it meets, or the gateway would never change again
                log.exception("the route watcher met an error that it does not know")
            self._seat.wait(self._poll_seconds)

    def _look(self) -> bool:
        """Loads what serves, then what is newer; whether there is nothing left that another worker has."""
        board = self._board
        serves = {family: stamp for family in board.families if (stamp := board.committed(family))}
        complete = self._has_all(serves)
        if board.leader == self._seat.slot:
            for family, generation in sorted(self._source.newest().items()):
                if max(self._held.get(family, ()), default=0) < stamp_of(generation, whole=True):
                    self._follow(family, generation)
            return complete
        return self._has_all({family: board.proven(family) for family in board.families}) and complete and board.settled

    def _has_all(self, stamps: Mapping[str, int]) -> bool:
        held = [self._has(family, stamp) for family, stamp in stamps.items()]  # one that fails holds no other up
        return all(held)

    def _follow(self, family: str, generation: int) -> None:
        """Loads a new generation; after a start, when only a challenger is broken, the champion must still answer."""
        if self._has(family, stamp_of(generation, whole=True)) or self._held.get(family):
            return
        route = self._source.route(family, generation)
        if route is not None and len(route.table.variants) > 1:
            self._has(family, stamp_of(generation, whole=False))

    def _has(self, family: str, stamp: int) -> bool:
        """Whether the table is loaded, after an attempt if it is due."""
        if stamp in self._held.get(family, ()):
            return True
        failure = self._failures.get((family, stamp))
        if failure and self._clock() < failure.again_at:
            return False
        route = self._source.route(family, stamp // 2)
        if route is None:
            return False
        table = route.table if stamp % 2 else _champion_alone(route)
        if any(variant.digest not in self._models for variant in table.variants):
            if again_at := self._crashed(family, stamp):
                self._fail(family, stamp, "a worker process died while it loaded this", again_at)
                return False
            self._tell(loading=(family, stamp))
        started = self._clock()
        try:
            loaded = self._load(family, stamp, table)
        except (Exception, SystemExit) as error:  # a package's code may raise anything; the old table must stay
            self._fail(family, stamp, f"{type(error).__name__}: {error}")
            return False
        self._hold(stamp, loaded)
        log.info("%s: generation %d is loaded, in %.2f s", family, loaded.generation, self._clock() - started)
        return True

    def _load(self, family: str, stamp: int, table: RoutingTable) -> LoadedTable:
        models = {}
        for variant in table.variants:
            models[variant.digest] = self._models.get(variant.digest) or self._loader.load(family, variant.digest)
        degraded = "" if stamp % 2 else "a challenger could not be loaded"
        return LoadedTable(family, stamp // 2, table, models, degraded)

    def _hold(self, stamp: int, loaded: LoadedTable) -> None:
        family = loaded.family
        self._on_open(loaded)
        self._held = MappingProxyType({**self._held, family: {**self._held.get(family, {}), stamp: loaded}})
        self._failures = MappingProxyType(
            {key: value for key, value in self._failures.items() if key[0] != family or key[1] > stamp}
        )
        for digest, model in loaded.models.items():
            self._models[digest] = model
            self._models.move_to_end(digest)
        gc.freeze()  # a loaded model is large and permanent: the collector need not walk through it on every round
        self._tell()

    def _drop_old(self) -> None:
        """Lets go of tables older than what serves, and of models that no table needs."""
        held = {
            family: {stamp: table for stamp, table in tables.items() if stamp >= self._board.committed(family)}
            for family, tables in self._held.items()
        }
        self._held = MappingProxyType(held)
        needed = {digest for tables in held.values() for table in tables.values() for digest in table.models}
        models = OrderedDict(self._models)
        spare = [digest for digest in models if digest not in needed]
        for digest in spare[: max(0, len(spare) - _SPARE_MODELS)]:
            del models[digest]
        if models.keys() != self._models.keys():
            self._models = models

    def _crashed(self, family: str, stamp: int) -> float | None:
        """When a table that workers died of may be tried again; None where it may be now."""
        for crash in self._board.status.get("crashes", ()):
            if (crash["family"], crash["stamp"]) == (family, stamp) and self._clock() < crash["again_at"]:
                return float(crash["again_at"])
        return None

    def _fail(self, family: str, stamp: int, error: str, again_at: float | None = None) -> None:
        before = self._failures.get((family, stamp))
        pause = min(before.pause * 2, _RETRY_MOST) if before else _RETRY_FIRST
        failure = Failure(stamp // 2, clip(error), again_at or self._clock() + pause, pause)
        others = {key: value for key, value in self._failures.items() if key[0] != family or key[1] // 2 == stamp // 2}
        self._failures = MappingProxyType({**others, (family, stamp): failure})
        log.error("%s: generation %d cannot be loaded, the old table goes on serving: %s", family, stamp // 2, error)

    def _tell(self, *, loading: tuple[str, int] | None = None, caught_up: bool | None = None) -> None:
        report = Report(
            held={family: sorted(tables) for family, tables in self._held.items()},
            failed={name: {"generation": one.generation, "error": one.error} for name, one in self.failed.items()},
            loading=loading,
            caught_up=self._told.caught_up if caught_up is None else caught_up,
            ledger_error=self.ledger_error,
        )
        if report != self._told:
            self._told = report
            self._seat.report(report)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """What `/v1/routes` shows: per family the table that serves, and what failed."""
        status = self._board.status
        failed = status.get("failed", {})
        shown: dict[str, dict[str, Any]] = {}
        tables = self.tables
        for family in sorted(tables.keys() | failed.keys()):
            table = tables.get(family)
            shown[family] = {
                "generation": table.generation if table else None,
                "table": table.table.model_dump(mode="json") if table else None,
                "degraded": bool(table and table.degraded),
                "failed": failed.get(family),
                "ledger_error": status.get("ledger_error") or None,
            }
        return shown


def _champion_alone(route: Route) -> RoutingTable:
    return RoutingTable(champion=route.table.champion, stage=route.table.stage, rollout=route.table.rollout)
