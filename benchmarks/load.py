"""A closed-loop HTTP load generator that costs little itself: N clients, each asks again as soon as it is answered.

It speaks just enough HTTP/1.1 over kept-alive connections, straight on non-blocking sockets, in a process of its own,
so that the time it measures is the server's. `python -m benchmarks.load PLAN.json` prints one JSON line.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from include.settings import PROJECT_ROOT

_READ = 1 << 18
_PATIENCE = 60.0


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
        own_ms: Processor time that the generator itself took per request.
    """

    rate: float
    p50: float
    p95: float
    p99: float
    n: int
    total: int
    failed: int
    own_ms: float


def measure(plan: LoadPlan) -> LoadResult:
    """Runs the load in a process of its own.

    Raises:
        SystemExit: The server answered nothing, or hung up.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(asdict(plan), file)
        file.flush()
        command = [sys.executable, "-m", "benchmarks.load", file.name]
        done = subprocess.run(command, cwd=PROJECT_ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{plan.path}, {plan.clients} clients: {done.stderr.strip()[-500:]}")
    return LoadResult(**json.loads(done.stdout))


class _Client:
    """A connection with one request under way."""

    __slots__ = ("_buffer", "_connection", "_missing", "_next", "_requests", "good", "sent")

    def __init__(self, port: int, requests: Sequence[bytes], offset: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests
        self._next = offset
        self._buffer = b""
        self._missing = 0
        self.good = False
        self.sent = 0.0

    def fileno(self) -> int:
        return self._connection.fileno()

    def ask(self) -> None:
        self._next += 1
        self.sent = time.perf_counter()
        self._connection.sendall(self._requests[self._next % len(self._requests)])

    def answered(self) -> bool:
        """Takes in what came; whether that was the rest of an answer."""
        data = self._connection.recv(_READ)
        if not data:
            raise SystemExit("the server hung up")
        if self._missing:
            self._missing -= len(data)
            return self._missing <= 0
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self._buffer[:end].lower()
        start = head.find(b"content-length:")
        if start < 0:
            raise SystemExit("the server says no content-length")
        self.good = head.startswith(b"http/1.1 200")
        self._missing = end + 4 + int(head[start + 15 :].split(b"\r\n", 1)[0]) - len(self._buffer)
        self._buffer = b""
        return self._missing <= 0

    def close(self) -> None:
        self._connection.close()


def _run(plan: LoadPlan) -> LoadResult:
    requests = [_request(plan, body) for body in plan.bodies]
    clients = [_Client(plan.port, requests, number * 7919) for number in range(plan.clients)]
    by_number = {client.fileno(): client for client in clients}
    poll = select.epoll()
    begun, processor = time.perf_counter(), time.process_time()
    for client in clients:
        poll.register(client, select.EPOLLIN)
        client.ask()
    first, last = begun + plan.warm_up, begun + plan.warm_up + plan.seconds
    answers: list[tuple[float, float]] = []
    failed, waiting = 0, len(clients)
    while waiting:
        ready = poll.poll(_PATIENCE)
        if not ready:
            raise SystemExit(f"no answer for {_PATIENCE:g} s")
        for number, _ in ready:
            client = by_number[number]
            if not client.answered():
                continue
            now = time.perf_counter()
            answers.append((now, now - client.sent))
            failed += not client.good
            if now < last:
                client.ask()
            else:
                waiting -= 1
                poll.unregister(client)
    own = time.process_time() - processor
    for client in clients:
        client.close()
    within = sorted(latency * 1e3 for at, latency in answers if first <= at <= last)
    if not within:
        raise SystemExit("the server answered nothing")
    p50, p95, p99 = (within[min(len(within) - 1, int(q * len(within)))] for q in (0.50, 0.95, 0.99))
    rate = len(within) / plan.seconds
    return LoadResult(rate, p50, p95, p99, len(within), len(answers), failed, own / len(answers) * 1e3)


def _request(plan: LoadPlan, body: str) -> bytes:
    data = body.encode()
    head = (
        f"POST {plan.path} HTTP/1.1\r\nhost: 127.0.0.1:{plan.port}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


if __name__ == "__main__":
    print(json.dumps(asdict(_run(LoadPlan(**json.loads(Path(sys.argv[1]).read_text()))))))
