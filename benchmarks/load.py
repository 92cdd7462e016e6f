"""A closed-loop HTTP load generator that costs little itself: N clients, each asks again as soon as it is answered.

It speaks just enough HTTP/1.1 over kept-alive connections, in a process of its own, so that the time it measures is the
server's. `python -m benchmarks.load PLAN.json` prints one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from include.settings import PROJECT_ROOT


@dataclass(frozen=True)
class LoadPlan:
    """What to send: `bodies` in turn to `path`, from `clients` connections, for `seconds` after `warm_up` seconds."""

    port: int
    path: str
    bodies: list[str]
    clients: int
    seconds: float
    warm_up: float = 1.0


@dataclass(frozen=True)
class LoadResult:
    """Requests per second and latencies in ms of `n` requests.

    Attributes:
        total: Requests in all, those of the warm-up included.
        failed: How many of these were not answered with 200.
    """

    rate: float
    p50: float
    p95: float
    p99: float
    n: int
    total: int
    failed: int


def measure(plan: LoadPlan) -> LoadResult:
    """Runs the load in a process of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(asdict(plan), file)
        file.flush()
        command = [sys.executable, "-m", "benchmarks.load", file.name]
        done = subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True, text=True)
    return LoadResult(**json.loads(done.stdout))


class _Client(asyncio.Protocol):
    def __init__(self, requests: Sequence[bytes], offset: int, latencies: list[tuple[float, float, bool]]) -> None:
        self._requests = requests
        self._next = offset
        self._latencies = latencies
        self._buffer = b""
        self._sent = 0.0
        self.stopping = False
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._next += 1
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        start = head.find(b"content-length:")
        length = int(head[start + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        now = time.perf_counter()
        self._latencies.append((now, (now - self._sent) * 1e3, head.startswith(b"http/1.1 200")))
        self._buffer = b""
        if self.stopping:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def _run(plan: LoadPlan) -> LoadResult:
    requests = [_request(plan, body) for body in plan.bodies]
    latencies: list[tuple[float, float, bool]] = []
    loop = asyncio.get_running_loop()
    clients = []
    for number in range(plan.clients):
        made = partial(_Client, requests, number * 7919, latencies)
        _, client = await loop.create_connection(made, "127.0.0.1", plan.port)
        clients.append(client)
    await asyncio.sleep(plan.warm_up)
    first = time.perf_counter()
    await asyncio.sleep(plan.seconds)
    last = time.perf_counter()
    for client in clients:
        client.stopping = True
    await asyncio.wait([client.closed for client in clients], timeout=30)
    within = sorted(latency for at, latency, _ in latencies if first <= at <= last)
    failed = sum(not good for _, _, good in latencies)
    if not within:
        raise SystemExit("the server answered nothing")
    p50, p95, p99 = (within[min(len(within) - 1, int(q * len(within)))] for q in (0.50, 0.95, 0.99))
    return LoadResult(len(within) / (last - first), p50, p95, p99, len(within), len(latencies), failed)


def _request(plan: LoadPlan, body: str) -> bytes:
    data = body.encode()
    head = (
        f"POST {plan.path} HTTP/1.1\r\nhost: 127.0.0.1:{plan.port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


if __name__ == "__main__":
    import uvloop

    result = uvloop.run(_run(LoadPlan(**json.loads(Path(sys.argv[1]).read_text()))))
    print(json.dumps(asdict(result)))
