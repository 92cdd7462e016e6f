"""Watches one Kubernetes pod to its end and tells its log meanwhile: for an event loop that watches hundreds.

The log is followed on one open connection; while nothing is said on it, nothing is done but a look at the pod every few
seconds. What is held is bounded by the length of a line, not by what the pod prints. The API server may go away for as
long as it likes: the watch goes on when it is back, and no line is told twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from include.errors import clip
from include.failures.pod_status import ended, started, stuck
from include.pods.contract import PodError
from include.pods.pod_log import PodLog

Record = dict[str, Any]
Connect = Callable[[], AbstractAsyncContextManager[Any]]

_ASK_SECONDS = 10.0  # a healthy API server answers in milliseconds
_PENDING_POLL, _POLL = 2.0, 5.0
_AWAY_POLL = 3.0
_SESSION_SECONDS = 600.0  # then the credentials are read anew: those of clouds last minutes
_TAIL_LINES = 5000  # of a log that somebody else has told already, as far as he came
_CHUNK, _PACE_SECONDS = 1 << 18, 0.2  # 1.25 MiB/s of one pod; what is more waits in the pod's log file
_DRAIN_SECONDS = 600.0
_STUCK_SECONDS = 60.0  # such as an image that is not there; a registry may come back sooner
_OK, _NOT_FOUND, _SERVER_ERROR, _PASSING = 200, 404, 500, frozenset({401, 429})
_GONE_SECONDS = 60.0  # after the grace; then the kubelet that should confirm the deletion is taken for dead


class PodEnd(str, Enum):
    """Why the watch ended."""

    SUCCEEDED = "success"
    FAILED = "failed"
    GONE = "gone"  # deleted, or its node never confirmed that
    PENDING = "pending"  # it did not start in time
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Watched:
    """How a pod ended.

    Attributes:
        pod: The pod as the API last gave it; None where it was never seen.
        tail: The last lines of its log.
    """

    end: PodEnd
    pod: Record | None
    tail: list[str] = field(default_factory=list)


class PodWatch:
    """Watches the pod `name`.

    Args:
        connect: Opens the Kubernetes API: an asynchronous context with a `kubernetes_asyncio` client.
        tell: Is called with each line of the log.
        pending_seconds: How long the pod may wait for its node and its image.
        deadline: Seconds since the epoch.
    """

    def __init__(
        self,
        connect: Connect,
        name: str,
        namespace: str,
        *,
        tell: Callable[[str], None],
        container: str = "base",
        pending_seconds: float,
        deadline: float | None = None,
    ) -> None:
        self._connect = connect
        self._name, self._namespace, self._container = name, namespace, container
        self._pending_seconds, self._deadline = pending_seconds, deadline
        self._tell = tell
        self._lines = PodLog(tell)
        self._pod: Record | None = None
        self._began = time.monotonic()
        self._deleted_at: float | None = None
        self._away = False

    async def run(self) -> Watched:
        """Waits for the pod's end.

        Raises:
            PodError: The API refuses to tell (such as 403): waiting longer would not help.
        """
        from kubernetes_asyncio.client import CoreV1Api

        while True:
            try:
                async with self._connect() as client:
                    end = await self._session(CoreV1Api(client))
            except _trouble() as error:
                if not self._away:
                    self._tell(
                        f"the Kubernetes API is away ({type(error).__name__} {clip(error, 200)}); waiting for it"
                    )
                self._away = True
                end = self._out_of_time()
                await asyncio.sleep(0 if end else _AWAY_POLL)
            if end:
                return Watched(end, self._pod, list(self._lines.tail))

    async def _session(self, api: Any) -> PodEnd | None:
        """Watches on one connection; None when it is time for a new one."""
        reader: asyncio.Task[None] | None = None
        over = time.monotonic() + _SESSION_SECONDS
        try:
            while time.monotonic() < over:
                pod = await self._look(api)
                if pod is None:
                    return PodEnd.GONE
                if (done := ended(pod, self._container)) is not None:
                    await self._drain(reader or asyncio.create_task(self._read(api)))
                    return PodEnd.SUCCEEDED if done else PodEnd.FAILED
                if end := self._lost(pod) or self._out_of_time() or self._waited_too_long(pod):
                    return end
                if reader is None and started(pod, self._container):
                    reader = asyncio.create_task(self._read(api))
                if reader is None or reader.done():
                    await asyncio.sleep(_PENDING_POLL)
                    reader = None
                else:
                    await asyncio.wait({reader}, timeout=_POLL)
            return None
        finally:
            if reader is not None:
                reader.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reader

    async def _look(self, api: Any) -> Record | None:
        response = await self._answer(api.read_namespaced_pod, timeout=_ASK_SECONDS)
        try:
            if response.status == _NOT_FOUND:
                return None
            self._pod = pod = dict(json.loads(await response.read()))
        finally:
            response.release()
        if self._away:
            self._tell("the Kubernetes API is back")
            self._away = False
        return pod

    async def _read(self, api: Any) -> None:
        """Tells the log to its end; returns early where it breaks off, and at once where there is none."""
        import aiohttp

        since = self._lines.since_seconds()
        where: Record = {"tail_lines": _TAIL_LINES} if since is None else {"since_seconds": since}
        where |= {"container": self._container, "follow": True, "timestamps": True}
        with contextlib.suppress(PodError, *_trouble()):  # the look at the pod tells what is wrong
            response = await self._answer(
                api.read_namespaced_pod_log, timeout=aiohttp.ClientTimeout(connect=_ASK_SECONDS), **where
            )
            try:
                await self._take(response)
            finally:
                response.close()

    async def _take(self, response: Any) -> None:
        self._lines.restart()
        taken = 0
        while response.status != _NOT_FOUND and (data := await response.content.readany()):
            self._lines.feed(data)
            taken += len(data)
            if taken >= _CHUNK:
                taken = 0
                await asyncio.sleep(_PACE_SECONDS)
        self._lines.close()

    @staticmethod
    async def _drain(reader: asyncio.Task[None]) -> None:
        """The rest of an ended container's log."""
        done, _ = await asyncio.wait({reader}, timeout=_DRAIN_SECONDS)
        if not done:
            reader.cancel()

    async def _answer(self, call: Callable[..., Awaitable[Any]], timeout: Any, **arguments: Any) -> Any:
        """The raw response about the pod; its status is 200 or 404.

        Raw, because the client's classes refuse what they do not know, and no cluster has their version.
        """
        from kubernetes_asyncio.client import ApiException

        response = await call(
            self._name, self._namespace, _preload_content=False, _request_timeout=timeout, **arguments
        )
        if response.status in (_OK, _NOT_FOUND):
            return response
        text = clip(await response.text(), 300)
        response.release()
        if response.status in _PASSING or response.status >= _SERVER_ERROR:
            raise ApiException(status=response.status, reason=text)
        raise PodError(
            f"the Kubernetes API refuses to show the pod {self._name} ({response.status}): {text}",
            where=f"namespace {self._namespace}",
            hint="the triggerer needs to get pods and pods/log there (docker/kubernetes/access.yaml)",
        )

    def _lost(self, pod: Record) -> PodEnd | None:
        """A pod whose deletion nobody confirms: its node is gone."""
        meta = pod["metadata"]
        if not meta.get("deletionTimestamp"):
            return None
        self._deleted_at = self._deleted_at or time.monotonic()
        patience = float(meta.get("deletionGracePeriodSeconds") or 0) + _GONE_SECONDS
        return PodEnd.GONE if time.monotonic() - self._deleted_at > patience else None

    def _out_of_time(self) -> PodEnd | None:
        return PodEnd.TIMEOUT if self._deadline is not None and time.time() >= self._deadline else None

    def _waited_too_long(self, pod: Record) -> PodEnd | None:
        patience = min(_STUCK_SECONDS, self._pending_seconds) if stuck(pod) else self._pending_seconds
        if started(pod, self._container) or time.monotonic() - self._began < patience:
            return None
        return PodEnd.PENDING


def _trouble() -> tuple[type[BaseException], ...]:
    """What comes of an API server that cannot be reached, or is not well."""
    import aiohttp
    from kubernetes_asyncio.client import ApiException

    return (aiohttp.ClientError, ApiException, TimeoutError, OSError, json.JSONDecodeError)
