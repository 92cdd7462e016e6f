"""How a gateway process runs: limits, threads and who may ask. Read once, at the start."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass

from include.errors import UserError

KEY_VARIABLE = "WINDTUNNEL_GATEWAY_API_KEY"
OPEN_VARIABLE = "WINDTUNNEL_GATEWAY_ALLOW_OPEN"
_MIN_KEY = 16


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class GatewayConfig:
    """Attributes:

    host, port: Where to listen; port 0 takes a free one.
    api_key: What clients must send as `Authorization: Bearer KEY` or `X-API-Key: KEY`; None asks for nothing.
    workers: Calls of one model that run at the same time.
    max_body: Largest request body, bytes.
    max_text: Longest text value in a request, characters.
    max_rows: Most examples in one inference request.
    max_batch: Most examples that one model call answers.
    answer_seconds: How long a model may take for an answer before the request fails.
    max_waiting: Requests that may wait per model before more are turned away with 503.
    remembered: Answers that feedback can still refer to.
    shadow_queue: Copied requests that may wait for the challenger before more are dropped.
    poll_seconds: How often the ledger is asked for a new routing table.
    flush_seconds, flush_rows: When the prediction log writes a segment.
    grace_seconds: How long requests in flight may take when the gateway stops.
    """

    host: str = "127.0.0.1"
    port: int = 8900
    api_key: str | None = None
    workers: int = 2
    max_body: int = 1 << 20
    max_text: int = 10_000
    max_rows: int = 256
    max_batch: int = 16
    answer_seconds: float = 10.0
    max_waiting: int = 1024
    remembered: int = 20_000
    shadow_queue: int = 256
    poll_seconds: float = 0.5
    flush_seconds: float = 2.0
    flush_rows: int = 500
    grace_seconds: float = 30.0

    @classmethod
    def from_env(
        cls,
        host: str,
        port: int,
        *,
        workers: int | None = None,
        allow_open: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> GatewayConfig:
        """The configuration for `host` and `port`, with the API key from the environment.

        Raises:
            UserError: The address can be reached from outside and there is no key, or the key is too short to be one.
        """
        env = os.environ if environ is None else environ
        key = env.get(KEY_VARIABLE) or None
        if key is not None and (len(key) < _MIN_KEY or not key.isascii()):
            raise UserError(
                f"the API key must be at least {_MIN_KEY} ASCII characters",
                where=KEY_VARIABLE,
                hint="try `openssl rand -hex 24`",
            )
        is_open = allow_open or env.get(OPEN_VARIABLE, "").lower() in {"1", "true", "yes"}
        if key is None and not is_loopback(host) and not is_open:
            raise UserError(
                f"refusing to listen on {host} without an API key: anyone who reaches it could ask the models",
                where="--host",
                hint=f"set {KEY_VARIABLE}, listen on 127.0.0.1, or pass --allow-open if a proxy checks who asks",
            )
        return cls(host=host, port=port, api_key=key, workers=workers or cores())


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
