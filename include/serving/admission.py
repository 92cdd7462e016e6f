"""Who may come in now: what a client may use of the gateway, and what the gateway takes in all.

Everything here is bookkeeping of a few numbers on the event loop's thread, before a byte of the body is read. A client
over its own limit gets 429, whatever the gateway could do; a full gateway says 503 to everyone. Both say when to
try again.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from include.serving.keys import Client
from include.serving.wire import RequestError

_KNOWN_CLIENTS = 10_000  # without keys a client is an address, of which there may be many


@dataclass(slots=True)
class _Account:
    """What a client has used: `tokens` are requests that it may make now (a token bucket of one second's rate)."""

    tokens: float
    at: float
    under_way: int = 0


class Admission:
    """Counts what is under way, and refuses what is too much.

    Args:
        max_under_way: Requests that the gateway takes at once.
        rate: Requests per second of a client that has no rate of its own; None for no limit.
        under_way: Requests of such a client at once; None for no limit.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        max_under_way: int,
        rate: float | None = None,
        under_way: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_under_way = max_under_way
        self._rate = rate
        self._client_under_way = under_way
        self._clock = clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self.under_way = 0
        self.refused_full = 0
        self.refused_clients: dict[str, int] = {}

    @contextmanager
    def pass_through(self, client: Client) -> Iterator[None]:
        """Lets a request of `client` in, until the end of the block.

        Raises:
            RequestError: The client is over its limits (429), or the gateway is full (503).
        """
        rate = client.rate or self._rate
        limit = client.under_way or self._client_under_way
        account = self._account(client.name, rate) if rate or limit else None
        if account is not None:
            self._check(client, account, rate, limit)
        if self.under_way >= self._max_under_way:
            self.refused_full += 1
            raise RequestError("the gateway is full", status=503, retry_after=1, hint="slow down and try again")
        self.under_way += 1
        if account is not None:
            account.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            if account is not None:
                account.under_way -= 1

    def _check(self, client: Client, account: _Account, rate: float | None, limit: int | None) -> None:
        if limit is not None and account.under_way >= limit:
            self._refuse(client, f"{limit} requests of this client are under way, which is its limit", 1)
        if rate is not None:
            if account.tokens < 1.0:
                wait = (1.0 - account.tokens) / rate
                self._refuse(client, f"this client may make {rate:g} requests per second", math.ceil(wait))
            account.tokens -= 1.0

    def _refuse(self, client: Client, message: str, retry_after: int) -> None:
        name = client.name if client.digests else ""  # addresses are no label for a metric: there may be any number
        self.refused_clients[name] = self.refused_clients.get(name, 0) + 1
        raise RequestError(message, status=429, retry_after=retry_after, hint="slow down, or ask for a higher limit")

    def _account(self, name: str, rate: float | None) -> _Account:
        now = self._clock()
        most = max(1.0, rate or 1.0)
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = _Account(most, now)
            while len(self._accounts) > _KNOWN_CLIENTS and not next(iter(self._accounts.values())).under_way:
                self._accounts.popitem(last=False)
        elif rate is not None:
            account.tokens = min(most, account.tokens + (now - account.at) * rate)
        account.at = now
        self._accounts.move_to_end(name)
        return account
