"""The gateway beside other model servers: the same runtime and package, the same cores, one worker process per core.

Each server runs in processes of its own and is idle while another is measured; the load comes from yet another
process. Clients are closed loops over distinct questions: each asks again as soon as it is answered.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil

from benchmarks.harness import Figure, summarise
from benchmarks.load import LoadPlan, LoadResult, measure
from benchmarks.model import BM25, ENCODER, Prepared, environment, prepare, route
from benchmarks.peers.packaged import FOLDER_VARIABLE
from benchmarks.peers.start import PEERS, NotInstalled, Recipe, gateway
from include.settings import PROJECT_ROOT

#: By model: how it is shown, and how many clients ask it.
MODELS = {BM25: ("BM25 alone", (1, 16, 64)), ENCODER: ("dual encoder", (1, 16))}
GATEWAY = "gateway"
_START_SECONDS = 120
_ALL_WORKERS_SECONDS = 60
_WARM_SECONDS = 0.5
_NOTE = (
    "Closed loop over distinct test questions; every server has one worker process per core and answers with the same "
    "records of the same package. The gateway also counts every answer and writes it to its prediction log; the others "
    "do not. The dual encoder spends most of a request in the model; BM25 alone shows the servers themselves."
)


@dataclass(frozen=True)
class Server:
    """A running server; its children do the work."""

    recipe: Recipe
    port: int
    pid: int
    start_seconds: float


@dataclass(frozen=True)
class Measured:
    """One turn of one server; `processor_ms` is what a request costs, which a busy neighbour does not change."""

    load: LoadResult
    processor_ms: float


Results = dict[tuple[str, int], list[Measured]]
_FIGURES: tuple[tuple[str, str, Callable[[Measured], float]], ...] = (
    ("requests per second", "1/s", lambda found: found.load.rate),
    ("latency p50", "ms", lambda found: found.load.p50),
    ("latency p95", "ms", lambda found: found.load.p95),
    ("latency p99", "ms", lambda found: found.load.p99),
    ("processor time per request", "ms", lambda found: found.processor_ms),
)


def run(quick: bool) -> list[Figure]:
    """Start-up time, throughput, latency and cost, each beside every peer that could be installed."""
    repeats, seconds = (2, 1.0) if quick else (4, 1.5)
    workers = len(os.sched_getaffinity(0))
    figures: list[Figure] = []
    for model, (shown, clients) in MODELS.items():
        prepared = prepare(model)
        route(prepared)
        recipes = [gateway(prepared, workers), *_peers(prepared, workers)]
        if model == BM25:
            figures += _start_up(prepared, recipes, 1 if quick else 2)
        results = _measured(prepared, recipes, clients, repeats, seconds)
        names = [recipe.name for recipe in recipes[1:]]
        for count in clients:
            text = f"{shown}, {count} client{'s' if count > 1 else ''}"
            figures += [_figure(results, count, name, text) for name in names]
            figures += [
                _figure(results, count, name, text, *cost, detail=True) for name in names for cost in _FIGURES[1:]
            ]
    return figures


def _peers(prepared: Prepared, workers: int) -> list[Recipe]:
    found = []
    for peer in PEERS:
        try:
            found.append(peer(prepared, workers))
        except NotInstalled as error:
            print(f"not measured: {error}", file=sys.stderr)
    return found


def _start_up(prepared: Prepared, recipes: Sequence[Recipe], repeats: int) -> list[Figure]:
    """Seconds from the start of the process to the first answer, taking turns."""
    seconds: dict[str, list[float]] = {recipe.name: [] for recipe in recipes}
    for _ in range(repeats):
        for recipe in recipes:
            with _running(recipe, prepared) as server:
                seconds[recipe.name].append(server.start_seconds)
    own, text = seconds[GATEWAY], "BM25 alone: from start to first answer"
    others = [(name, taken) for name, taken in seconds.items() if name != GATEWAY]
    return [_paired(text, "s", own, name, taken) for name, taken in others]


def _measured(
    prepared: Prepared, recipes: Sequence[Recipe], clients: Sequence[int], repeats: int, seconds: float
) -> Results:
    """All servers on one model, taking turns; a server is idle while another is measured."""
    results: Results = {}
    with ExitStack() as stack:
        servers = [stack.enter_context(_running(recipe, prepared)) for recipe in recipes]
        for turn in range(repeats):
            for count in clients:
                for server in servers if turn % 2 else reversed(servers):
                    found = _turn(server, prepared.questions, count, seconds)
                    results.setdefault((server.recipe.name, count), []).append(found)
    return results


def _turn(server: Server, questions: Sequence[str], clients: int, seconds: float) -> Measured:
    bodies = [server.recipe.body(text, number) for number, text in enumerate(questions)]
    before = _processor_seconds(server.pid)
    load = measure(LoadPlan(server.port, server.recipe.path, bodies, clients, seconds, _WARM_SECONDS))
    if load.failed:
        raise SystemExit(f"{server.recipe.name}: {load.failed} of {load.total} requests failed")
    return Measured(load, (_processor_seconds(server.pid) - before) / load.total * 1e3)


def _processor_seconds(pid: int) -> float:
    """Processor time, user and system, of a process and its children."""
    top = psutil.Process(pid)
    times = [process.cpu_times() for process in (top, *top.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def _figure(
    results: Results,
    clients: int,
    peer: str,
    text: str,
    name: str = _FIGURES[0][0],
    unit: str = _FIGURES[0][1],
    read: Callable[[Measured], float] = _FIGURES[0][2],
    *,
    detail: bool = False,
) -> Figure:
    own, theirs = ([read(found) for found in results[server, clients]] for server in (GATEWAY, peer))
    return _paired(f"{text}: {name}", unit, own, peer, theirs, detail=detail)


def _paired(text: str, unit: str, own: list[float], peer: str, theirs: list[float], *, detail: bool = False) -> Figure:
    return summarise(
        "serving", text, own, unit=unit, peer=peer, peer_values=theirs, paired=True, note=_NOTE, detail=detail
    )


@contextmanager
def _running(recipe: Recipe, prepared: Prepared) -> Iterator[Server]:
    """A server in a process group of its own, which ends with the block."""
    log = prepared.settings.home / f"{recipe.name.replace(' ', '-')}.log"
    env = {**environment(prepared.settings), **recipe.environ, FOLDER_VARIABLE: str(prepared.folder)}
    port = free_port()
    with log.open("w") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            recipe.command(port), cwd=PROJECT_ROOT, env=env, stdout=output, stderr=output, start_new_session=True
        )
        try:
            _wait_until(lambda: _answers(port, recipe, prepared.questions[0]), process, _START_SECONDS)
            taken = time.perf_counter() - started
            if recipe.name == GATEWAY:  # the other workers follow the first one
                _wait_until(lambda: _all_live(port), process, _ALL_WORKERS_SECONDS)
            yield Server(recipe, port, process.pid, taken)
        except TimeoutError:
            raise SystemExit(f"{recipe.name} did not start; its log ends with:\n{log.read_text()[-2000:]}") from None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(timeout=20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _answers(port: int, recipe: Recipe, question: str) -> bool:
    urllib.request.urlopen(f"http://127.0.0.1:{port}{recipe.ready}", timeout=5).close()
    headers = {"content-type": "application/json"}
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}{recipe.path}", recipe.body(question, 0).encode(), headers, method="POST"
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return bool(answer.status == 200)


def _all_live(port: int) -> bool:
    import json

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/workers", timeout=5) as answer:
        shown = json.load(answer)
    return bool(shown["live"] == shown["configured"])


def _wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float) -> None:
    """Raises `TimeoutError` when the time is over or the process has ended."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:  # not listening yet, or not ready yet
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
