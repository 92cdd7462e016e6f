"""The gateway beside `mlflow models serve`: the same runtime and package, the same cores, taking turns.

Each server runs in processes of its own and is idle while the other is measured; the load comes from yet another
process. Clients are closed loops over distinct questions: each asks again as soon as it is answered.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.harness import Figure, summarise
from benchmarks.load import LoadPlan, LoadResult, measure
from benchmarks.model import BM25, ENCODER, FAMILY, Prepared, environment, prepare, route
from include.settings import PROJECT_ROOT

CLIENTS = (1, 16)
MODELS = {ENCODER: "dual encoder", BM25: "BM25 alone"}
_START_SECONDS = 120
_NOTE = (
    "Closed loop over distinct test questions; the peer wraps the same runtime and package in `mlflow.pyfunc`, is "
    "started with `--env-manager local` and answers with the same record. The dual encoder spends most of a request in "
    "the model; BM25 alone costs next to nothing and shows the servers themselves."
)


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, and the process whose children do the work."""

    port: int
    path: str
    pid: int


@dataclass(frozen=True)
class Measured:
    """One turn of one server; `processor_ms` is what a request costs, which a busy neighbour does not change."""

    load: LoadResult
    processor_ms: float


Results = dict[tuple[str, int], list[Measured]]
_RATE: tuple[str, str, Callable[[Measured], float]] = ("requests per second", "1/s", lambda found: found.load.rate)
_COSTS: tuple[tuple[str, str, Callable[[Measured], float]], ...] = (
    ("latency p50", "ms", lambda found: found.load.p50),
    ("latency p95", "ms", lambda found: found.load.p95),
    ("latency p99", "ms", lambda found: found.load.p99),
    ("processor time per request", "ms", lambda found: found.processor_ms),
)


def run(quick: bool) -> list[Figure]:
    """Throughput, latency and cost at 1 and 16 clients, beside MLflow with one worker and with one per core."""
    repeats, seconds = (2, 3.0) if quick else (5, 5.0)
    cores = len(os.sched_getaffinity(0))
    figures: list[Figure] = []
    for model, shown in MODELS.items():
        results = _measured(prepare(model), sorted({1, cores}), repeats, seconds)
        for clients in CLIENTS:
            text = f"{shown}, {clients} client{'s' if clients > 1 else ''}"
            for workers in sorted({1, cores}):
                figures.append(_figure(results, clients, workers, text, *_RATE))
            figures += [_figure(results, clients, cores, text, *cost) for cost in _COSTS]
    return figures


def _measured(prepared: Prepared, peers: list[int], repeats: int, seconds: float) -> Results:
    """All servers on one model, taking turns; a server is idle while another is measured."""
    route(prepared)
    results: Results = {}
    with ExitStack() as stack:
        servers = {"gateway": stack.enter_context(_gateway(prepared))}
        packed = _mlflow_model(prepared)
        for workers in peers:
            servers[_peer_name(workers)] = stack.enter_context(_mlflow(prepared, packed, workers))
        for _ in range(repeats):
            for clients in CLIENTS:
                for name, server in servers.items():
                    bodies = _bodies(name, prepared.questions)
                    found = _turn(server, LoadPlan(server.port, server.path, bodies, clients, seconds))
                    results.setdefault((name, clients), []).append(found)
    return results


def _turn(server: Server, plan: LoadPlan) -> Measured:
    before = _processor_seconds(server.pid)
    load = measure(plan)
    if load.failed:
        raise SystemExit(f"{plan.path}: {load.failed} of {load.total} requests failed")
    return Measured(load, (_processor_seconds(server.pid) - before) / load.total * 1e3)


def _processor_seconds(pid: int) -> float:
    """Processor time, user and system, of a process and its children."""
    top = psutil.Process(pid)
    times = [process.cpu_times() for process in (top, *top.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def _figure(
    results: Results, clients: int, workers: int, text: str, name: str, unit: str, read: Callable[[Measured], float]
) -> Figure:
    peer = _peer_name(workers)
    own = [read(found) for found in results["gateway", clients]]
    theirs = [read(found) for found in results[peer, clients]]
    return summarise("serving", f"{text}: {name}", own, unit=unit, peer=peer, peer_values=theirs, note=_NOTE)


def _peer_name(workers: int) -> str:
    return "mlflow models serve" if workers == 1 else f"mlflow models serve --workers {workers}"


def _bodies(server: str, questions: list[str]) -> list[str]:
    if server == "gateway":
        return [json.dumps({"question": text, "unit_id": f"unit-{n}"}) for n, text in enumerate(questions)]
    return [json.dumps({"inputs": {"question": [text]}}) for text in questions]


@contextmanager
def _gateway(prepared: Prepared) -> Iterator[Server]:
    port = _free_port()
    command = [sys.executable, "-m", "include.serving", "--port", str(port)]
    ready = f"http://127.0.0.1:{port}/v2/models/{FAMILY}/versions/{prepared.model}/ready"
    with _server(command, prepared, ready) as pid:
        yield Server(port, "/v1/ask", pid)


@contextmanager
def _mlflow(prepared: Prepared, model: Path, workers: int) -> Iterator[Server]:
    port = _free_port()
    command = [
        "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port),
        "--workers", str(workers),
    ]  # fmt: skip
    with _server(command, prepared, f"http://127.0.0.1:{port}/ping") as pid:
        yield Server(port, "/invocations", pid)


def _mlflow_model(prepared: Prepared) -> Path:
    import mlflow

    target = prepared.settings.home / "mlflow-model"
    shutil.rmtree(target, ignore_errors=True)
    code = Path(__file__).with_name("mlflow_model.py")
    artifacts = {"package": str(prepared.folder)}
    mlflow.pyfunc.save_model(str(target), python_model=str(code), artifacts=artifacts, pip_requirements=[])
    return target


@contextmanager
def _server(command: list[str], prepared: Prepared, ready: str) -> Iterator[int]:
    """A server in a process group of its own, which ends with the block; its process id."""
    log = prepared.settings.home / f"{Path(command[0]).name}.log"
    env = environment(prepared.settings)
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, env=env, stdout=output, stderr=output, start_new_session=True
        )
        try:
            _wait_until(ready, process, log)
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def _wait_until(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:  # not listening yet, or not ready yet
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server did not start; its log ends with:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
