"""The gateway's core: takes a checked question, answers it by the routing table, and notes what happened.

It knows nothing of HTTP. Everything that a request does not need for its answer (log, shadow, counting for Prometheus)
happens on other threads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from include.errors import FailureKind, WindtunnelError, clip
from include.families.contract import ModelRuntime
from include.release.routing import Variant
from include.serving.admission import Admission
from include.serving.board import Column
from include.serving.calls import Answers, Inputs, ModelStuck, ModelTimeout
from include.serving.config import GatewayConfig
from include.serving.feedback import FeedbackBook
from include.serving.kept_counts import KeptCounts
from include.serving.mail import Mail
from include.serving.memory import resident_mb
from include.serving.models import LoadedTable, Model, ModelLoader
from include.serving.peers import Peers
from include.serving.prediction_log import PredictionLog
from include.serving.predictions import PREDICTION
from include.serving.route_source import RouteSource, open_routes
from include.serving.seat import AloneSeat, Seat
from include.serving.shadow import Copy, ShadowLane, ShadowOutcome
from include.serving.spool import Spool
from include.serving.stats import CountMemory, Stats
from include.serving.tallies import Tallies
from include.serving.tally import Lane, Place
from include.serving.threads import SideWork
from include.serving.tracing import Tracing
from include.serving.watcher import Watcher
from include.serving.wire import RequestError
from include.settings import Settings
from include.store.objects import ObjectStore, open_store

log = logging.getLogger(__name__)

_PUBLISH_SECONDS = 0.25
_STUCK_RETRY = 10
_FEEDBACK_WAITING, _FEEDBACK_THREADS = 256, 2


@dataclass(frozen=True, slots=True)
class Question:
    """A checked request: `inputs` hold `rows` examples for the table's runtime.

    Attributes:
        unit: Who asks; decides on the variant.
        version: The model version that the client insists on; None leaves it to the split.
        started: `perf_counter` when the request came in.
        seconds: How long the client wants to wait; None leaves it to the gateway.
    """

    table: LoadedTable
    inputs: Inputs
    rows: int
    unit: str
    version: str | None
    request_id: str
    started: float
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer on its way out; `request_ids` has one id per row, for feedback."""

    request_ids: list[str]
    variant: Variant
    answers: Answers
    latency_ms: float


class ModelFailed(RequestError):
    """The model could not answer a valid request."""


@dataclass(frozen=True)
class Shared:
    """What a serving process has in common with the others of its gateway; by default there are none.

    Attributes:
        counts: What each of them counts in.
        name: The gateway's, the same for all of them.
        folder: Where their sockets lie; only this user may enter it.
    """

    seat: Seat = field(default_factory=AloneSeat)
    counts: Sequence[CountMemory] = ()
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="windtunnel-gateway-")))


class Gateway:
    """All parts of a serving process."""

    def __init__(
        self,
        config: GatewayConfig,
        store: ObjectStore,
        routes: RouteSource,
        loader: ModelLoader,
        spool: Spool,
        shared: Shared | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        shared = shared or Shared()
        self.seat = shared.seat
        self.config = config
        self.name = shared.name
        self.instance = uuid.uuid4().hex[:8]
        self.started_at = _now()
        self.stats = Stats(shared.counts, self.seat.slot)
        self.kept = KeptCounts(store, self.stats, shared.name, self.seat.slot, config.counts_seconds)
        self.log = PredictionLog(
            store, spool, self.instance, flush_seconds=config.flush_seconds, flush_rows=config.flush_rows
        )
        self.watcher = Watcher(routes, loader, self._opened, config.poll_seconds, seat=self.seat)
        self.feedback = FeedbackBook(config.remembered, self.stats, self.log, self._runtime, _now)
        self.peers = Peers(
            shared.folder, self.seat.slot, self.seat.board.slots, self._give_feedback, config.answer_seconds
        )
        self.mail = Mail(
            store, shared.name, self.give_feedback, collects=self.seat.slot == 0, seconds=config.flush_seconds
        )
        self.shadow = ShadowLane(config.shadow_queue, self._in_shadow, self._shadow_done)
        self.admission = Admission(config.max_under_way, config.client_rate, config.client_under_way)
        self.labelling = SideWork(
            "feedback", _FEEDBACK_THREADS, max_waiting=_FEEDBACK_WAITING, seconds=config.answer_seconds
        )
        self.tracing = tracing
        self._late: set[asyncio.Task[None]] = set()
        self.turned_away = 0
        self.draining = False
        self.tallies = Tallies(self)
        self._tick: asyncio.TimerHandle | None = None

    @classmethod
    def build(cls, config: GatewayConfig, settings: Settings, shared: Shared | None = None) -> Gateway:
        """A gateway on an installation's ledger and object store."""
        store = open_store(settings.store_url)
        loader = ModelLoader(store, settings.home / "cache" / "packages", config)
        spool = Spool(settings.home / "spool", config.spool_bytes)
        return cls(
            config, store, open_routes(settings.database_url), loader, spool, shared, Tracing.from_env(os.environ)
        )

    async def start(self) -> None:
        """Starts what runs in the background, on the running event loop; the first table is loaded there."""
        self.log.start()
        self.kept.start()
        self.shadow.start()
        await self.peers.start()
        await self.mail.start()
        self.watcher.start()
        self._publish()

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return bool(self.watcher.tables) and not self.draining

    async def stop(self) -> None:
        """Ends that, and writes the prediction log; call it when no request is in flight any more.

        Where the store is away, rows of the log stay `pending`, on disk.
        """
        if self._tick is not None:
            self._tick.cancel()
        await self.shadow.stop()
        await asyncio.gather(*self._late)
        if self.shadow.unfinished is not None:
            self.stats.withdraw(self.shadow.unfinished.place)
        await self.mail.stop()
        await self.peers.stop()
        await asyncio.to_thread(self.watcher.stop)
        try:
            await asyncio.to_thread(self.kept.close)
        except WindtunnelError as error:
            log.error("the last counts of the stages are lost: %s", error)
        try:
            await asyncio.to_thread(self.log.close)
        except WindtunnelError as error:
            log.error("%d rows of the prediction log are not in the store: %s", self.log.pending, error)
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    def table(self, family: str | None) -> LoadedTable:
        """The table of `family`, or of the only family there is.

        Raises:
            RequestError: Nothing serves yet (503), or no such family (404), or it must be named.
        """
        found = self.watcher.serving(family) if family is not None else None
        if found is not None:
            return found
        tables = self.watcher.tables
        if not tables:
            raise RequestError("no model serves yet", status=503, retry_after=2, hint="wait for the first release")
        if family is None:
            if len(tables) > 1:
                raise RequestError(f"say which family: {', '.join(sorted(tables))}", hint="add `family` to the request")
            return next(iter(tables.values()))
        raise RequestError(
            f"there is no model family {clip(family, 64)!r} here",
            status=404,
            hint=f"served: {', '.join(sorted(tables))}",
        )

    async def ask(self, question: Question) -> Answered:
        """The answer of the variant that the table assigns (or of the version that the client named).

        Raises:
            RequestError: No such version (404), too many wait (503).
            ModelFailed: The model's code failed (500), took too long (504), hangs (503), or refused the input (422).
        """
        table = question.table
        variant, lane = _chosen(question)
        model = table.models[variant.digest]
        place = table.place(variant, lane)
        self.stats.begin(place)
        try:
            with self.tracing.model(place, question.rows) if self.tracing else nullcontext():
                answers = await model.batcher.submit(question.inputs, question.rows, question.seconds)
        except RequestError:
            self.turned_away += 1
            self.stats.withdraw(place)
            raise
        except asyncio.CancelledError:
            self.stats.withdraw(place)
            raise
        except (
            Exception
        ) as error:  # the model's code may raise anything; the client gets a sentence, the ledger a count
            raise self._failed(question, place, error) from error
        latency_ms = (perf_counter() - question.started) * 1e3
        ids = (
            [question.request_id]
            if question.rows == 1
            else [f"{question.request_id}.{row}" for row in range(question.rows)]
        )
        self.stats.record(place, latency_ms, failed=False)
        for row, record in enumerate(answers.records):
            self.feedback.remember(ids[row], place, record)
            self._count_proxies(model, place, record)
        self._log_rows(place, ids, question.unit, question.inputs, answers, latency_ms, None)
        if lane is Lane.LIVE and (challenger := table.shadow) is not None:
            target = table.place(challenger, Lane.SHADOW)
            self.shadow.offer(Copy(ids, question.unit, question.inputs, target, table.models[challenger.digest]))
        return Answered(ids, variant, answers, latency_ms)

    async def give_feedback(
        self, request_id: str, truth: Mapping[str, Any] | None, helpful: bool | None
    ) -> dict[str, Any]:
        """`FeedbackBook.give`, in the worker that gave the answer; another gateway labels its own within seconds.

        Raises:
            RequestError: As there, that worker or the store cannot be reached (503), or that gateway is gone (404).
        """
        if (other := self.mail.elsewhere(request_id)) is not None:
            return await self.labelling.run(self.mail.post, other, request_id, truth, helpful)
        slot = self.peers.elsewhere(request_id)
        if slot is None:
            return await self._give_feedback(request_id, truth, helpful)
        return await self.peers.pass_on(slot, request_id, truth, helpful)

    async def _give_feedback(
        self, request_id: str, truth: Mapping[str, Any] | None, helpful: bool | None
    ) -> dict[str, Any]:
        # a family's own code labels the answer: whatever it does with a strange truth, others must not wait for it
        return await self.labelling.run(self.feedback.give, request_id, truth, helpful)

    async def stats_of(self, family: str | None, generation: int | None) -> dict[str, Any]:
        """What `/v1/stats` shows: the counts of all processes of all gateways on this installation.

        Raises:
            RequestError: No such family here, or the generation was never served (404); counts cannot be read (503).
        """
        table = self.table(family)
        number = table.generation if generation is None else generation
        try:
            shown = await asyncio.to_thread(self._joined, table, number)
        except (SQLAlchemyError, WindtunnelError) as error:
            raise RequestError(
                f"the counts cannot be read: {clip(error, 200)}", status=503, retry_after=1, hint="try again"
            ) from error
        if shown is None:
            hint = f"this gateway serves generation {table.generation}"
            raise RequestError(f"generation {number} of {table.family} was not served", status=404, hint=hint)
        identity = {
            "family": table.family,
            "generation": number,
            "instance": self.instance,
            "started_at": self.started_at.isoformat(),
        }
        memory = self._memory(table.family, number)
        return {**identity, **shown, "memory": memory, **self.tallies.to_json()}

    def _joined(self, table: LoadedTable, generation: int) -> dict[str, Any] | None:
        counts = self.kept.joined(table.family, generation)
        if counts is None:
            return None
        routed = self.watcher.route(table.family, generation)
        return counts.to_json(routed) if routed else None

    def _publish(self) -> None:
        self.tallies.publish()
        self._tick = asyncio.get_running_loop().call_later(_PUBLISH_SECONDS, self._publish)

    def _opened(self, table: LoadedTable) -> None:
        self.stats.open(table.family, table.generation, resident_mb() or 0.0)

    def _memory(self, family: str, generation: int) -> dict[str, float] | None:
        """Of the processes that loaded the generation, then and now."""
        opened = self.stats.opened_mb(family, generation)
        if not opened or not all(opened.values()):
            return None
        now = sum(self.seat.board.read(slot, Column.RESIDENT_KB) for slot in opened) / 1e3
        return {"opened_mb": round(sum(opened.values()), 3), "now_mb": round(now, 3)}

    def _runtime(self, family: str, digest: str) -> ModelRuntime | None:
        model: Model | None = self.watcher.model(family, digest)
        return model.runtime if model else None

    def _failed(self, question: Question, place: Place, error: Exception) -> ModelFailed:
        if isinstance(error, WindtunnelError) and error.kind in {FailureKind.DATA, FailureKind.USER}:
            return ModelFailed(error.message, status=422, hint=error.hint)  # the input's fault is no error of the model
        latency_ms = (perf_counter() - question.started) * 1e3
        self.stats.record(place, latency_ms, failed=True)
        sentence = f"{type(error).__name__}: {clip(error, 200)}"
        self._log_rows(place, [question.request_id], question.unit, question.inputs, None, latency_ms, sentence)
        if isinstance(error, ModelStuck):
            return ModelFailed("the model hangs", status=503, retry_after=_STUCK_RETRY, request_id=question.request_id)
        if isinstance(error, ModelTimeout):
            return ModelFailed("the model did not answer in time", status=504, request_id=question.request_id)
        return ModelFailed("the model failed on this request", status=500, request_id=question.request_id)

    def _in_shadow(self, copy: Copy) -> bool:
        table = self.watcher.serving(copy.place.family)
        wanted = table is not None and table.generation == copy.place.generation
        if wanted:
            self.stats.begin(copy.place)
        return wanted

    def _shadow_done(self, outcome: ShadowOutcome) -> None:
        copy = outcome.copy
        self.stats.record(copy.place, outcome.latency_ms, failed=outcome.answers is None)
        if outcome.answers is not None:
            for request_id, record in zip(copy.request_ids, outcome.answers.records, strict=True):
                self._count_proxies(copy.model, copy.place, record)
                late = self.feedback.shadow(request_id, copy.place, record)
                if late is not None:
                    self._late.add(task := asyncio.create_task(self._label(late)))
                    task.add_done_callback(self._late.discard)
        self._log_rows(
            copy.place, copy.request_ids, copy.unit, copy.inputs, outcome.answers, outcome.latency_ms, outcome.error
        )

    def _count_proxies(self, model: Model, place: Place, record: Mapping[str, Any]) -> None:
        if values := model.proxies_of(record):
            self.stats.label(place, values, truth=False)

    async def _label(self, late: Callable[[], None]) -> None:
        try:
            await self.labelling.run(late)
        except RequestError as error:
            log.warning("a shadow answer was not labelled: %s", error)

    def _log_rows(
        self,
        place: Place,
        ids: list[str],
        unit: str,
        inputs: Inputs,
        answers: Answers | None,
        latency_ms: float,
        error: str | None,
    ) -> None:
        at = _now().isoformat()
        for row, request_id in enumerate(ids):
            self.log.add(
                {
                    "kind": PREDICTION,
                    "request_id": request_id,
                    "at": at,
                    "family": place.family,
                    "version": place.version,
                    "digest": place.digest,
                    "role": place.role,
                    "generation": place.generation,
                    "shadow": place.lane is Lane.SHADOW,
                    "direct": place.lane is Lane.DIRECT,
                    "unit_id": unit,
                    "inputs": {name: values[row] for name, values in inputs.items()},
                    "outputs": answers.records[row] if answers else None,
                    "latency_ms": round(latency_ms, 3),
                    "error": error,
                }
            )


def _chosen(question: Question) -> tuple[Variant, Lane]:
    if question.version is None:
        return question.table.assigned(question.unit), Lane.LIVE
    variant = question.table.with_version(question.version)
    if variant is None:
        loaded = ", ".join(variant.version for variant in question.table.table.variants)
        raise RequestError(
            f"version {clip(question.version, 64)!r} is not loaded", status=404, hint=f"loaded: {loaded}"
        )
    return variant, Lane.DIRECT


def _now() -> datetime:
    return datetime.now(UTC)
