"""Sends OpenLineage events, and never at the cost of the work that they tell of.

Every event is kept in the object store under `lineage/<family>/<day>/`, one object each, so that lineage works without
a network, survives the pod, and can be sent to a catalogue later. Where the OpenLineage client is configured by its own
means (`OPENLINEAGE_URL`, `OPENLINEAGE__TRANSPORT__...`, `OPENLINEAGE_CONFIG`, `openlineage.yml`), events go there as
well. `OPENLINEAGE_DISABLED=true` stops both.

Events are made and sent by threads of their own, beside the work. Whatever goes wrong there is one line in the log. At
the end the work waits a moment for what was not sent yet: `KEEP_SECONDS` for the object store, `SEND_SECONDS` for
anybody else.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from include.errors import clip
from include.store.objects import ObjectStore

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import RunEvent

KEEP_SECONDS = 10.0
SEND_SECONDS = 2.0
FOLDER = "lineage"

#: No facet with what is in `.git`: the address of a remote may hold a password, and the code's version is told anyway.
_CONFIG = {"facets": {"source_code_location": {"disabled": True}}}


class Emitter:
    """Takes events; `close` once at the end. May be used from several threads.

    Args:
        store: Where events are kept.
        family: Whose events they are.
    """

    def __init__(self, store: ObjectStore, family: str) -> None:
        self._store = store
        self._family = family
        self._client: OpenLineageClient | None = None
        self._keeping: _Worker | None = None
        self._sending: _Worker | None = None
        _live.add(self)

    def emit(self, make: Callable[[], RunEvent]) -> None:
        """Makes, keeps and sends an event, later and elsewhere; returns at once and raises nothing."""
        if _disabled():
            return
        try:
            if self._keeping is None:
                self._keeping = _Worker("lineage")
            self._keeping.put(lambda: self._keep(make))
        except RuntimeError as error:  # no thread to be had
            _complain(str(error))

    def drain(self) -> None:
        """Waits until everything was sent, at most as long as the module says."""
        if self._keeping is not None and not self._keeping.wait(KEEP_SECONDS):
            _complain(f"events were not kept within {KEEP_SECONDS:g} s")
        if self._sending is not None and not self._sending.wait(SEND_SECONDS):
            _complain(f"events were not sent within {SEND_SECONDS:g} s; they are kept under {FOLDER}/{self._family}/")

    def close(self) -> None:
        """Waits as `drain`, and ends the threads."""
        self.drain()
        for worker in (self._keeping, self._sending):
            if worker is not None:
                worker.stop()
        self._keeping = self._sending = None

    def _keep(self, make: Callable[[], RunEvent]) -> None:
        from openlineage.client.serde import Serde

        event = make()
        state = event.eventType.value if event.eventType else "OTHER"
        moment = event.eventTime.replace(":", "").replace("+0000", "Z")
        key = f"{FOLDER}/{self._family}/{moment[:10]}/{moment[11:]}-{event.job.name}-{state}-{event.run.runId[:8]}.json"
        self._store.put(key, Serde.to_json(event).encode())
        if self._sending is None and _configured():
            self._sending = _Worker("lineage-send")
        if self._sending is not None:
            self._sending.put(lambda: self._send(event))

    def _send(self, event: RunEvent) -> None:
        if self._client is None:
            from openlineage.client import OpenLineageClient

            self._client = OpenLineageClient(config=_CONFIG)
        self._client.emit(event)


class _Worker:
    """A thread that does one thing after another and survives all of them."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._open = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def put(self, job: Callable[[], None]) -> None:
        with self._changed:
            self._open += 1
        self._jobs.put(job)

    def wait(self, seconds: float) -> bool:
        """Whether everything was done in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, seconds)

    def stop(self) -> None:
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # lineage tells of the work; whatever fails here must not reach the work
                _complain(f"{type(error).__name__}: {clip(error, 200)}")
            finally:
                with self._changed:
                    self._open -= 1
                    self._changed.notify_all()


def _disabled() -> bool:
    return os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true"


def _configured() -> bool:
    """Whether the client has a transport of its own; without one it would print every event."""
    if os.environ.get("OPENLINEAGE_URL"):
        return True
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport.noop import NoopConfig, NoopTransport

    config: Any = OpenLineageClient(transport=NoopTransport(NoopConfig())).config.transport
    return bool(config)


def _complain(text: str) -> None:
    print(f"lineage: {text}", file=sys.stderr, flush=True)


_live: weakref.WeakSet[Emitter] = weakref.WeakSet()


def _before_fork() -> None:
    """A process must not be forked while a thread of ours holds a lock that the child would wait for."""
    started = time.monotonic()
    for emitter in list(_live):
        if time.monotonic() - started < KEEP_SECONDS:
            emitter.drain()


os.register_at_fork(before=_before_fork)
