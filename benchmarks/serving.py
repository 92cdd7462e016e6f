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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.harness import Figure, summarise
from benchmarks.load import LoadPlan, LoadResult, measure
from benchmarks.model import FAMILY, Prepared, environment, prepare, route
from include.settings import PROJECT_ROOT

CLIENTS = (1, 16)
_START_SECONDS = 120
_NOTE = (
    "Closed loop over distinct test questions; the peer wraps the same runtime and package in `mlflow.pyfunc` and is "
    "started with `--env-manager local`; both answer with the same record."
)


def run(quick: bool) -> list[Figure]:
    """Requests per second and latency at 1 and 16 clients, against one and against one-per-core MLflow workers."""
    prepared = prepare()
    route(prepared)
    cores = len(os.sched_getaffinity(0))
    repeats, seconds = (2, 3.0) if quick else (7, 8.0)
    results: dict[tuple[str, int], list[LoadResult]] = {}
    with ExitStack() as stack:
        servers = {"gateway": stack.enter_context(_gateway(prepared))}
        model = _mlflow_model(prepared)
        for workers in sorted({1, cores}):
            servers[_peer_name(workers)] = stack.enter_context(_mlflow(prepared, model, workers))
        for _ in range(repeats):
            for clients in CLIENTS:
                for name, (port, path) in servers.items():
                    bodies = _bodies(name, prepared.questions)
                    found = measure(LoadPlan(port, path, bodies, clients, seconds, warm_up=1.0))
                    if found.failed:
                        raise SystemExit(f"{name} failed {found.failed} of {found.n} requests")
                    results.setdefault((name, clients), []).append(found)
    peers = [name for name in servers if name != "gateway"]
    return [figure for clients in CLIENTS for peer in peers for figure in _figures(results, clients, peer)]


def _figures(results: dict[tuple[str, int], list[LoadResult]], clients: int, peer: str) -> Iterator[Figure]:
    own, theirs = results["gateway", clients], results[peer, clients]
    shown = f"{clients} client{'s' if clients > 1 else ''}"
    for field, text, unit in (
        ("rate", "requests per second", "1/s"),
        ("p50", "latency p50", "ms"),
        ("p95", "latency p95", "ms"),
        ("p99", "latency p99", "ms"),
    ):
        values, peer_values = [getattr(found, field) for found in own], [getattr(found, field) for found in theirs]
        yield summarise(
            "serving", f"{text}, {shown}", values, unit=unit, peer=peer, peer_values=peer_values, note=_NOTE
        )


def _peer_name(workers: int) -> str:
    return "mlflow models serve" if workers == 1 else f"mlflow models serve --workers {workers}"


def _bodies(server: str, questions: list[str]) -> list[str]:
    if server == "gateway":
        return [json.dumps({"question": text, "unit_id": f"unit-{n}"}) for n, text in enumerate(questions)]
    return [json.dumps({"inputs": {"question": [text]}}) for text in questions]


@contextmanager
def _gateway(prepared: Prepared) -> Iterator[tuple[int, str]]:
    port = _free_port()
    command = [sys.executable, "-m", "include.serving", "--port", str(port)]
    with _server(command, prepared, f"http://127.0.0.1:{port}/v2/models/{FAMILY}/ready"):
        yield port, "/v1/ask"


@contextmanager
def _mlflow(prepared: Prepared, model: Path, workers: int) -> Iterator[tuple[int, str]]:
    port = _free_port()
    command = [
        "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port),
        "--workers", str(workers),
    ]  # fmt: skip
    with _server(command, prepared, f"http://127.0.0.1:{port}/ping"):
        yield port, "/invocations"


def _mlflow_model(prepared: Prepared) -> Path:
    import mlflow

    target = prepared.settings.home / "mlflow-model"
    shutil.rmtree(target, ignore_errors=True)
    code = Path(__file__).with_name("mlflow_model.py")
    artifacts = {"package": str(prepared.folder)}
    mlflow.pyfunc.save_model(str(target), python_model=str(code), artifacts=artifacts, pip_requirements=[])
    return target


@contextmanager
def _server(command: list[str], prepared: Prepared, ready: str) -> Iterator[None]:
    """A server in a process group of its own, which ends with the block."""
    log = prepared.settings.home / f"{Path(command[0]).name}.log"
    env = environment(prepared.settings)
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, env=env, stdout=output, stderr=output, start_new_session=True
        )
        try:
            _wait_until(ready, process, log)
            yield
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
