"""How a gateway process runs: limits, threads and who may ask. Read once, at the start."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from include.errors import UserError
from include.pods.cgroup import quota
from include.serving.keys import CLIENTS_VARIABLE, KEY_VARIABLE, Client, read_clients

OPEN_VARIABLE = "WINDTUNNEL_GATEWAY_ALLOW_OPEN"
_LIMIT_VARIABLE = "WINDTUNNEL_GATEWAY_{}"
_NOT_LIMITS = frozenset({"host", "port", "clients", "workers", "threads"})
WORKERS_VARIABLE, THREADS_VARIABLE = "WINDTUNNEL_GATEWAY_WORKERS", "WINDTUNNEL_GATEWAY_THREADS"
_MOST = 64
_MOST_BY_DEFAULT = 4  # every worker has the models in its memory
_CHOICES: Mapping[str, Mapping[str, Any]] = {
    "log_format": {"json": "json", "text": "text"},
    "log_requests": {"failed": "failed", "all": "all", "none": "none"},
    "log_payloads": {"true": True, "false": False, "1": True, "0": False},
}
_MAY_BE_ZERO = frozenset({"drain_seconds"})


def cores() -> int:
    """Cores that this process may use, whole ones."""
    most = quota()
    seen = len(os.sched_getaffinity(0))
    return seen if most is None else max(1, min(seen, math.ceil(most)))


@dataclass(frozen=True)
class GatewayConfig:
    """Attributes:

    host, port: Where to listen; port 0 takes a free one.
    clients: Whose keys are accepted, as `Authorization: Bearer KEY` or `X-API-Key: KEY`; none asks for no key.
    workers: Processes that serve, on one port.
    threads: Calls of one model that run at the same time in each of them.

    Everything below is also an environment variable, `WINDTUNNEL_GATEWAY_MAX_BODY` and so on.

    max_body: Largest request body, bytes.
    max_text: Longest text value in a request, characters.
    max_rows: Most examples in one inference request.
    max_values: Most values in all inputs of a request.
    max_batch: Most examples that one model call answers.
    answer_seconds: How long a request may take, from its queue to its answer, before it fails.
    read_seconds: How long a client may take to send a request, and how long an answer may wait for it to be read.
    max_under_way: Requests that are taken at once, those being read included; beyond it 503.
    max_waiting: Examples that may wait per model; beyond it 503.
    max_wait_seconds: How long a request may have to wait for its model, by the speed of the last calls; beyond it 503.
    max_connections: Open connections; further ones are told 503 and closed.
    client_rate: Requests per second of one client that a process takes, if its key says nothing else; beyond it 429.
    client_under_way: Requests of one client at once, likewise. Without keys a client is an address. None: no limit.
    remembered: Answers that feedback can still refer to.
    shadow_queue: Copied requests that may wait for the challenger before more are dropped.
    poll_seconds: How often the ledger is asked for a new routing table.
    flush_seconds, flush_rows: When the prediction log writes a segment.
    spool_bytes: Of the prediction log that may wait on disk for the store, per process; beyond it the oldest is lost.
    counts_seconds: How often a process writes the counts that releases are judged on.
    drain_seconds: How long a gateway that was told to stop says that it is not ready, and still takes requests.
    grace_seconds: How long requests in flight may take after that.
    hang_seconds: How long the event loop of a process may stand still before the process is replaced.
    log_format: `json` or `text`.
    log_requests: Which requests get a line in the log: `failed` (5xx and 429), `all` or `none`.
    log_payloads: Whether those lines quote what was asked; `true` only where the log may hold it.
    load_seconds: How long the models of a routing table may take to load before the process is replaced.
    """

    host: str = "127.0.0.1"
    port: int = 8900
    clients: tuple[Client, ...] = ()
    workers: int = 1
    threads: int = 2
    max_body: int = 1 << 20
    max_text: int = 10_000
    max_rows: int = 256
    max_values: int = 65_536
    max_batch: int = 16
    answer_seconds: float = 10.0
    read_seconds: float = 10.0
    max_under_way: int = 2048
    max_waiting: int = 1024
    max_wait_seconds: float = 5.0
    max_connections: int = 4096
    client_rate: float | None = None
    client_under_way: int | None = None
    remembered: int = 20_000
    shadow_queue: int = 256
    poll_seconds: float = 0.5
    flush_seconds: float = 2.0
    flush_rows: int = 500
    spool_bytes: int = 256 << 20
    counts_seconds: float = 1.0
    drain_seconds: float = 0.0
    grace_seconds: float = 30.0
    hang_seconds: float = 30.0
    load_seconds: float = 120.0
    log_format: str = "json"
    log_requests: str = "failed"
    log_payloads: bool = False

    @classmethod
    def from_env(
        cls,
        host: str,
        port: int,
        *,
        workers: int | None = None,
        threads: int | None = None,
        allow_open: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> GatewayConfig:
        """The configuration for `host` and `port`, with keys and limits from the environment.

        Raises:
            UserError: The address can be reached from outside and there is no key, a key is too short to be one, a
                file of keys cannot be used, or a limit is no number.
        """
        env = os.environ if environ is None else environ
        clients = read_clients(env)
        is_open = allow_open or env.get(OPEN_VARIABLE, "").lower() in {"1", "true", "yes"}
        if not clients and not is_loopback(host) and not is_open:
            raise UserError(
                f"refusing to listen on {host} without an API key: anyone who reaches it could ask the models",
                where="--host",
                hint=f"set {KEY_VARIABLE} or {CLIENTS_VARIABLE}, listen on 127.0.0.1, or pass --allow-open if a proxy "
                "checks who asks",
            )
        workers = _count(workers, env, WORKERS_VARIABLE) or min(cores(), _MOST_BY_DEFAULT)
        threads = _count(threads, env, THREADS_VARIABLE) or cores()
        return cls(host=host, port=port, clients=clients, workers=workers, threads=threads, **_limits(env))


def _count(given: int | None, environ: Mapping[str, str], variable: str) -> int | None:
    text = environ.get(variable, "") if given is None else str(given)
    if text and not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST):
        raise UserError(f"expected a whole number from 1 to {_MOST}, not {text!r}", where=variable)
    return int(text) if text else None


def _limits(environ: Mapping[str, str]) -> dict[str, Any]:
    """The limits that the environment sets."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(GatewayConfig):
        variable = _LIMIT_VARIABLE.format(field.name.upper())
        if field.name in _NOT_LIMITS or not (text := environ.get(variable)):
            continue
        if choices := _CHOICES.get(field.name):
            if text not in choices:
                raise UserError(f"expected one of {', '.join(choices)}, not {text!r}", where=variable)
            found[field.name] = choices[text]
            continue
        whole = "int" in str(field.type)
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = -1
        if not math.isfinite(value) or value < 0 or (value == 0 and field.name not in _MAY_BE_ZERO):
            kind = "a whole number above 0" if whole else "a number above 0"
            raise UserError(f"expected {kind}, not {text!r}", where=variable, hint="leave it out for the default")
        found[field.name] = value
    return found


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
