"""Feedback finds the gateway that gave the answer, where several serve one installation: through the object store.

A load balancer sends feedback to any of them, but only the process that gave an answer remembers it. The end of a
request id names its gateway; what is for another one is left under `mail/<gateway>/`, where that gateway looks every
few seconds. Delivering a letter twice does no harm, because an answer is labelled once. A gateway shows that it lives
by an object that it writes anew every minute, so that nothing is left for one that is gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from include.errors import WindtunnelError, clip
from include.serving.peers import gateway_of
from include.serving.wire import RequestError
from include.store.objects import ObjectNotFound, ObjectStore

log = logging.getLogger(__name__)

LETTERS, ALIVE = "mail", "gateways"
_BEAT_SECONDS, _GONE_SECONDS = 60.0, 200.0
_KEPT_SECONDS = 300.0  # a letter that cannot be given for so long never will
_LATER = 503
_KEY = re.compile(rf"^{ALIVE}/([0-9a-f]{{8}})\.json$")

Give = Callable[[str, Mapping[str, Any] | None, bool | None], Awaitable[dict[str, Any]]]


class Mail:
    """The letter box of a gateway, and its way to those of the others.

    Args:
        gateway: This gateway's name.
        give: What to do with feedback on an answer of this gateway.
        collects: Whether this process empties the box; one of a gateway's processes does.
        seconds: How often.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        store: ObjectStore,
        gateway: str,
        give: Give,
        *,
        collects: bool,
        seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._give = give
        self._collects = collects
        self._seconds = seconds
        self._clock = clock
        self._shown = 0.0
        self._rounds: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._collects:
            self._rounds = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Takes the box down, after a last look into it."""
        if self._rounds is None:
            return
        self._rounds.cancel()
        with suppress(asyncio.CancelledError):
            await self._rounds
        try:
            await asyncio.to_thread(self._store.delete, _alive(self._gateway))
            await self.collect()
        except WindtunnelError as error:
            log.warning("feedback that came over other gateways may be left: %s", error)

    def elsewhere(self, request_id: str) -> str | None:
        """The other gateway that gave this answer; None where it is this one's, or nobody's."""
        name = gateway_of(request_id)
        return name if name != self._gateway else None

    def post(
        self, gateway: str, request_id: str, truth: Mapping[str, Any] | None, helpful: bool | None
    ) -> dict[str, Any]:
        """Leaves feedback for another gateway; blocks on the store.

        Raises:
            RequestError: There is no such gateway (404), or the store is away (503).
        """
        letter = {"request_id": request_id, "truth": truth, "helpful": helpful, "at": self._clock()}
        try:
            if not self._lives(gateway):
                raise RequestError(
                    f"the gateway that gave the answer {clip(request_id, 64)!r} is gone",
                    status=404,
                    hint="what it remembered is gone with it",
                )
            self._store.put(f"{_box(gateway)}{uuid.uuid4().hex}.json", json.dumps(letter).encode())
        except RequestError:
            raise
        except WindtunnelError as error:
            raise RequestError(
                f"the feedback cannot be passed on: {clip(error, 200)}", status=503, retry_after=1
            ) from error
        return {"request_id": request_id, "labels": {}, "counted": False, "passed_on": True}

    async def collect(self) -> None:
        """Empties the box. What cannot be given at this moment stays for the next round.

        Raises:
            StoreError: The store cannot be read or written.
        """
        for key in await asyncio.to_thread(lambda: list(self._store.keys(_box(self._gateway)))):
            if await self._deliver(key):
                await asyncio.to_thread(self._store.delete, key)

    async def _deliver(self, key: str) -> bool:
        """Whether the letter is done with.

        One whose label takes too long is: another try would hold up the labels of others again.
        """
        try:
            letter = json.loads(await asyncio.to_thread(self._store.get, key))
            too_old = self._clock() - letter["at"] > _KEPT_SECONDS
            await self._give(letter["request_id"], letter["truth"], letter["helpful"])
        except RequestError as error:
            if error.status == _LATER and not too_old:
                return False
            log.info("feedback that came over another gateway is refused: %s", error)
        except ObjectNotFound:
            return False
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s is no letter: %s", key, error)
        return True

    async def _run(self) -> None:
        warned = False
        while True:
            try:
                await asyncio.to_thread(self._show)
                await self.collect()
                warned = False
            except WindtunnelError as error:  # the letters wait; the next round tries again
                if not warned:
                    log.warning("feedback that came over other gateways cannot be read: %s", error)
                warned = True
            await asyncio.sleep(self._seconds)

    def _show(self) -> None:
        """Shows that this gateway lives, and clears away what is left of those that do not."""
        if self._clock() - self._shown < _BEAT_SECONDS:
            return
        self._store.put(_alive(self._gateway), json.dumps({"at": self._clock()}).encode())
        self._shown = self._clock()
        for key in list(self._store.keys(f"{ALIVE}/")):
            found = _KEY.match(key)
            if found and not self._lives(found[1]):
                for letter in list(self._store.keys(_box(found[1]))):
                    self._store.delete(letter)
                self._store.delete(key)

    def _lives(self, gateway: str) -> bool:
        try:
            at = float(json.loads(self._store.get(_alive(gateway)))["at"])
        except (ObjectNotFound, ValueError, KeyError, TypeError):
            return False
        return self._clock() - at < _GONE_SECONDS


def _alive(gateway: str) -> str:
    return f"{ALIVE}/{gateway}.json"


def _box(gateway: str) -> str:
    return f"{LETTERS}/{gateway}/"
