"""What the gateway itself costs: routing, counting and logging around a call of the model, and the prediction log.

In one process and without HTTP: the same questions go to the model directly and through the gateway's core, under
routing tables of one and of several versions, taking turns. All versions are the same package, so that only the
routing differs.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.harness import Figure, summarise
from benchmarks.model import BM25, FAMILY, Prepared, prepare
from include.release.ledger import Route
from include.release.routing import Arm, Role, RoutingTable, Variant, assign
from include.serving.calls import answer
from include.serving.config import GatewayConfig
from include.serving.encoding import encode
from include.serving.gateway import Gateway, Question, Shared
from include.serving.models import ModelLoader
from include.serving.peers import new_request_id
from include.serving.prediction_log import PredictionLog
from include.serving.predictions import PREDICTION, read_predictions
from include.serving.spool import Spool
from include.store.objects import LocalObjectStore, open_store

DIRECT = "the model called directly"
_NOTE = (
    "One process, one request at a time, no HTTP: what routing, queueing, counting and logging add to a call of "
    "the BM25 package. All versions are the same package."
)
_LOG_NOTE = "Rows as the gateway writes them, to a local folder; the peer only encodes them as JSON."
_READY_SECONDS = 60


def run(quick: bool) -> list[Figure]:
    """Microseconds per request, by the number of versions that share the traffic, and rows per second of the log."""
    turns, requests, rows = (3, 100, 2_000) if quick else (15, 300, 20_000)
    prepared = prepare(BM25)
    with _folder() as folder:
        figures = asyncio.run(_requests(prepared, folder, turns, requests))
    figures += _assignments(turns)
    with _folder() as folder:
        return figures + _log(prepared, folder, 3 if quick else 7, rows)


def _tables(digest: str) -> dict[str, RoutingTable]:
    champion = Variant(role=Role.CHAMPION, version="1.0.0", digest=digest)
    others = [Variant(role=Role.CHALLENGER, version=f"{number}.0.0", digest=digest) for number in range(2, 9)]
    arms = tuple(Arm(variant=variant, weight=1.0) for variant in (champion, *others))
    return {
        "one version": RoutingTable(champion=champion),
        "two versions": RoutingTable(champion=champion, challenger=others[0], challenger_share=0.5, rollout="r"),
        "eight versions": RoutingTable(champion=champion, arms=arms, rollout="e"),
    }


class _OneRoute:
    """A ledger with one routing table."""

    def __init__(self, table: RoutingTable) -> None:
        self._table = table

    def newest(self) -> Mapping[str, int]:
        return {FAMILY: 1}

    def route(self, family: str, generation: int) -> Route | None:
        return Route(generation, self._table, "benchmark", "benchmarks", datetime.now(UTC))


@asynccontextmanager
async def _gateway(prepared: Prepared, folder: Path, table: RoutingTable) -> AsyncIterator[Gateway]:
    config = GatewayConfig(threads=1)
    store = open_store(prepared.settings.store_url)
    loader = ModelLoader(store, prepared.settings.home / "cache" / "packages", config)
    sockets = folder / table.rollout
    sockets.mkdir(exist_ok=True)
    spool = Spool(folder / "spool")
    gateway = Gateway(
        config, LocalObjectStore(folder / "store"), _OneRoute(table), loader, spool, Shared(folder=sockets)
    )
    await gateway.start()
    deadline = time.monotonic() + _READY_SECONDS
    while not gateway.ready:
        if time.monotonic() > deadline:
            raise SystemExit(f"the gateway did not load its model: {gateway.watcher.failed}")
        await asyncio.sleep(0.02)
    try:
        yield gateway
    finally:
        await gateway.stop()


async def _requests(prepared: Prepared, folder: Path, turns: int, requests: int) -> list[Figure]:
    figures = []
    for name, table in _tables(prepared.digest).items():
        direct: list[float] = []
        routed: list[float] = []
        async with _gateway(prepared, folder, table) as gateway:
            for turn in range(turns + 1):
                sent = [prepared.questions[(turn * requests + n) % len(prepared.questions)] for n in range(requests)]
                called, asked = _called(gateway, sent), await _asked(gateway, sent)
                if turn:  # the first one warms up
                    direct.append(called)
                    routed.append(asked)
        figures.append(_figure(f"one request through the gateway's core, {name}", routed, direct))
    return figures


def _called(gateway: Gateway, questions: list[str]) -> float:
    """Microseconds per question, asked of the model itself."""
    runtime = gateway.table(FAMILY).champion.runtime
    started = time.perf_counter()
    for text in questions:
        answer(runtime, {"question": [text]}, 1)
    return (time.perf_counter() - started) / len(questions) * 1e6


async def _asked(gateway: Gateway, questions: list[str]) -> float:
    """Microseconds per question, asked of the gateway."""
    started = time.perf_counter()
    for number, text in enumerate(questions):
        table = gateway.table(FAMILY)
        unit = f"unit-{number}"
        request_id = new_request_id(gateway.name, 0)
        await gateway.ask(Question(table, {"question": [text]}, 1, unit, None, request_id, time.perf_counter()))
    return (time.perf_counter() - started) / len(questions) * 1e6


def _figure(text: str, own: list[float], peer: list[float]) -> Figure:
    return summarise("router", text, own, unit="us", peer=DIRECT, peer_values=peer, note=_NOTE, paired=True)


def _assignments(turns: int) -> list[Figure]:
    """The choice of a version by itself."""
    units = [f"unit-{number}" for number in range(5000)]
    figures = []
    for name, table in _tables("digest").items():
        taken = []
        for _ in range(turns):
            started = time.perf_counter()
            for unit in units:
                assign(table, unit)
            taken.append((time.perf_counter() - started) / len(units) * 1e6)
        figures.append(summarise("router", f"choosing among {name}", taken, unit="us"))
    return figures


def _log(prepared: Prepared, folder: Path, turns: int, rows: int) -> list[Figure]:
    """Rows per second from the first `add` until all of them are in the store, and the cost of `add` to a request."""
    written, encoded, added = [], [], []
    for turn in range(turns):
        sent = [_row(prepared, f"{turn}-{number}") for number in range(rows)]
        started = time.perf_counter()
        for row in sent:
            encode(row)
        encoded.append(rows / (time.perf_counter() - started))
        store = LocalObjectStore(folder / str(turn))
        log = PredictionLog(store, Spool(folder / f"spool-{turn}"), "benchmark", max_rows=rows)
        log.start()
        started = time.perf_counter()
        for row in sent:
            log.add(row)
        added.append((time.perf_counter() - started) / rows * 1e6)
        log.close()
        written.append(rows / (time.perf_counter() - started))
        now = datetime.now(UTC)
        kept = sum(1 for _ in read_predictions(store, FAMILY, now - timedelta(hours=1), now + timedelta(hours=1)))
        if kept != rows:
            raise SystemExit(f"{kept} of {rows} rows are in the prediction log")
    return [
        summarise(
            "router", "prediction log: rows per second", written, unit="1/s", peer="encoding alone",
            peer_values=encoded, note=_LOG_NOTE, paired=True,
        ),
        summarise("router", "prediction log: cost of a row to its request", added, unit="us"),
    ]  # fmt: skip


def _row(prepared: Prepared, request_id: str) -> dict[str, Any]:
    return {
        "kind": PREDICTION, "request_id": request_id, "at": datetime.now(UTC).isoformat(), "family": FAMILY,
        "version": "1.0.0", "digest": prepared.digest, "role": Role.CHAMPION, "generation": 1, "shadow": False,
        "direct": False, "unit_id": request_id, "inputs": {"question": prepared.questions[0]},
        "outputs": {"answer": "As the rulebook says. " * 10, "passages": ["1:1"] * 10, "score": 0.9, "confidence": 0.5},
        "latency_ms": 1.234, "error": None,
    }  # fmt: skip


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="windtunnel-router-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
