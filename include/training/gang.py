"""Several pods that train one model: how they find each other, hear of each other's end, and agree to stop.

Each pod is a node of the gang and runs its own training processes (`include.training.ranks`). Node 0 holds a c10d store
(torch's `TCPStore`, which torchrun's rendezvous is made of, too) and tells its address in the object store, which every
pod reaches: no name service is needed, and the pods may start in any order. Twice a second each node writes one record
there and reads those of the others: that it is there, that it was asked to stop, how it left.

A node that fails or falls silent ends all of them, within seconds, and not after the half hour that collectives wait.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from include.errors import FailureKind, WindtunnelError
from include.failures.endings import Ending
from include.failures.log_lines import cause
from include.store.objects import ObjectNotFound, ObjectStore
from include.training.node import Meeting, Node
from include.training.stop import Stop, Stopped

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

_BEAT_SECONDS = 0.5
#: A node that was not heard of for so long is gone. Well above what a crowded machine keeps a thread waiting.
_SILENCE_SECONDS = 20.0
#: How long a node whose own error is only an echo ("connection closed") waits to hear what the cause was.
_ECHO_SECONDS = 5.0
_CONNECT_SECONDS = 5.0


class RendezvousError(WindtunnelError):
    """The nodes did not all come together in time, or do not do the same work."""


class GangError(WindtunnelError):
    """Another node failed or went away; of the kind that its own error was."""


@dataclass
class _Record:
    """What a node tells the others.

    Attributes:
        facts: What it is about to do; must be the same on all nodes.
        stop_at: Of node 0: the optimizer step after which all save and leave; -1: none.
        agreed: The same, as the others know it.
        left: "" while it is there; `done`, `stopped`, or `failed`, and then with its `error`.
        echo: Its error only tells that it lost others.
    """

    facts: dict[str, Any]
    beat: int = 0
    stopping: bool = False
    stop_at: int = -1
    agreed: int = -1
    left: str = ""
    echo: bool = False
    error: dict[str, Any] | None = None


class Gang:
    """This node's membership.

    Args:
        prefix: Object-key prefix of the work; node 0's address is told below it.
        seconds: How long nodes wait for each other at the start.
        facts: What this node is about to do, such as the step that it goes on from.
    """

    def __init__(self, node: Node, store: ObjectStore, prefix: str, seconds: float, facts: Mapping[str, Any]) -> None:
        self.node = node
        self._store, self._key = store, f"{prefix}/gang/{node.gang}.json"
        self._deadline, self._seconds = time.monotonic() + seconds, seconds
        self._own = _Record(dict(facts))
        self._others: dict[int, _Record] = {}
        self._heard: dict[int, float] = {}
        self._listening: socket.socket | None = None
        self._c10d: TCPStore | None = None
        self._beating: threading.Thread | None = None
        self._done = threading.Event()
        self._lost: GangError | None = None
        self.meeting: Meeting | None = None

    # Coming together --------------------------------------------------------------------------------------------------
    def find(self, stop: Stop) -> None:
        """Makes the place to meet, or finds it. Starts no thread: processes are forked after it.

        Raises:
            RendezvousError: Node 0 did not tell where it is.
            Stopped: SIGTERM came first.
        """
        host, _, port = self.node.endpoint.rpartition(":")
        if self.node.rank == 0:
            bind = (self.node.address, int(port or 0))
            family = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
            self._listening = socket.create_server(bind, family=family)
            place = (host or bind[0], int(self._listening.getsockname()[1]))
            self._store.put(self._key, json.dumps({"host": place[0], "port": place[1]}).encode())
        elif port:
            place = (host, int(port))
        else:
            place = self._poll(self._told, stop, "node 0 did not tell where it is")
        self.meeting = Meeting(*place, self.node.address, self.node.gang)

    def meet(self, stop: Stop) -> None:
        """Waits until all nodes are there, and goes on telling them that this one is.

        Raises:
            RendezvousError: Some did not come in time, one left again, or they are about to do different work.
            Stopped: SIGTERM came first.
        """
        self._c10d = self._poll(self._connected, stop, "node 0 does not answer")
        self._tell()
        ranks = [rank for rank in range(self.node.nodes) if rank != self.node.rank]

        def all_there() -> bool:
            self._hear([rank for rank in ranks if self._c10d_store().check([_name(rank)])])
            self._check_others()
            return len(self._others) == len(ranks)

        def missing() -> str:
            names = ", ".join(str(rank) for rank in ranks if rank not in self._others)
            return f"node {names} of {self.node.nodes} did not come"

        self._poll(all_there, stop, missing)
        # From now on calls to a store whose machine is away fail after this time; they would wait for minutes.
        self._c10d_store().set_timeout(timedelta(seconds=_SILENCE_SECONDS))
        self._beating = threading.Thread(target=self._beat, args=(stop,), daemon=True)
        self._beating.start()

    def _check_others(self) -> None:
        for rank, record in self._others.items():
            if record.facts != self._own.facts:
                raise RendezvousError(
                    f"node {rank} is about to do other work: {record.facts}, and node {self.node.rank}: "
                    f"{self._own.facts}"
                )
            if record.left == "failed" and (record.error or {}).get("error") == RendezvousError.__name__:
                raise RendezvousError(str((record.error or {}).get("message")))
            if record.left == "failed":
                raise self._failed(rank, record)
            if record.left == "stopped":
                raise RendezvousError(f"node {rank} of {self.node.nodes} was stopped before all were there")

    def _poll(self, what: Callable[[], Any], stop: Stop, problem: str | Callable[[], str]) -> Any:
        """The first true value of `what()`, in the time that nodes wait for each other."""
        while True:
            found = None
            with suppress(RuntimeError, ObjectNotFound):  # torch's errors of a store that is not there yet, or no more
                found = what()
            if found:
                return found
            if stop.requested:
                raise Stopped("training was asked to stop before all nodes were there", hint="start it again")
            if time.monotonic() > self._deadline:
                said = problem if isinstance(problem, str) else problem()
                hint = "see whether all pods of the training found a place; resources.pending_minutes is the limit"
                raise RendezvousError(f"{said} within {self._seconds:g} s", hint=hint)
            time.sleep(_BEAT_SECONDS / 2)

    def _told(self) -> tuple[str, int]:
        record = json.loads(self._store.get(self._key))
        return record["host"], record["port"]

    def _connected(self) -> TCPStore:
        from torch._C._distributed_c10d import TCPStore

        assert self.meeting is not None
        options: dict[str, Any] = {"timeout": timedelta(seconds=_CONNECT_SECONDS), "wait_for_workers": False}
        if self._listening is not None:
            options |= {"is_master": True, "master_listen_fd": self._listening.detach()}
        return TCPStore(self.meeting.host, self.meeting.port, **options)

    # While it trains --------------------------------------------------------------------------------------------------
    @property
    def trouble(self) -> GangError | None:
        """Why this node cannot go on although its own processes could."""
        if self._lost is not None or self._beating is None:
            return self._lost
        for rank, record in sorted(self._others.items(), key=lambda item: item[1].echo):
            if record.left == "failed":
                return self._failed(rank, record)
            if not record.left and time.monotonic() - self._heard[rank] > _SILENCE_SECONDS:
                return self._gone(rank)
        return None

    def _beat(self, stop: Stop) -> None:
        while not self._done.wait(_BEAT_SECONDS):
            try:
                self._agree(stop)
                self._tell()
                self._hear(list(self._others))
            except RuntimeError:  # torch's errors of a store whose node is gone
                if not self._others.get(0, self._own).left:
                    self._lost = self._gone(0)
                return

    def _agree(self, stop: Stop) -> None:
        """Passes on that some node was asked to stop, and after which step; see `include.training.stop`."""
        others = self._others.values()
        if stop.requested or any(record.stopping for record in others):
            stop.request()
        self._own.stopping = stop.requested
        if self.node.rank == 0:
            self._own.stop_at = stop.at_step
            if stop.at_step >= 0 and all(record.left or record.agreed == stop.at_step for record in others):
                stop.all_agreed()
        elif self._others[0].stop_at >= 0:
            stop.agree(self._others[0].stop_at)
            self._own.agreed = stop.at_step

    def _tell(self) -> None:
        self._own.beat += 1
        self._c10d_store().set(_name(self.node.rank), json.dumps(asdict(self._own), default=str))

    def _hear(self, ranks: list[int]) -> None:
        if not ranks:
            return
        for rank, told in zip(ranks, self._c10d_store().multi_get([_name(rank) for rank in ranks]), strict=True):
            record = _Record(**json.loads(told))
            if rank not in self._others or self._others[rank].beat != record.beat:
                self._heard[rank] = time.monotonic()
            self._others[rank] = record

    def _c10d_store(self) -> TCPStore:
        assert self._c10d is not None
        return self._c10d

    # Leaving ----------------------------------------------------------------------------------------------------------
    def explain(self, error: WindtunnelError) -> WindtunnelError:
        """The error to report: the cause on another node where this node's own is only its echo."""
        if self._beating is None or not is_echo(error.message):
            return error
        deadline = time.monotonic() + _ECHO_SECONDS
        while time.monotonic() < deadline:
            if self._lost is not None:
                return self._lost
            for rank, record in self._others.items():
                if record.left == "failed" and not record.echo:
                    return self._failed(rank, record)
            time.sleep(_BEAT_SECONDS / 2)
        now = time.monotonic()
        silent = [rank for rank, heard in self._heard.items() if now - heard > _ECHO_SECONDS / 2]
        gone = [rank for rank in silent if not self._others[rank].left]
        return self._gone(gone[0]) if gone else error

    def leave(self, error: WindtunnelError | None) -> None:
        """Tells the others how this node left; node 0 stays until they heard it."""
        self._done.set()
        if self._beating is not None:
            self._beating.join(timeout=_ECHO_SECONDS)
        self._own.left = "done" if error is None else "stopped" if isinstance(error, Stopped) else "failed"
        if self._own.left == "failed" and error is not None:
            self._own.error, self._own.echo = error.to_json(), is_echo(error.message) or isinstance(error, GangError)
        stuck = self._beating is not None and self._beating.is_alive()  # in a call to a store that is silent
        if self._c10d is not None and not stuck:
            with suppress(RuntimeError):
                self._tell()
                self._wait_for_others()
        if self.node.rank == 0:
            for key in list(self._store.keys(f"{self._key.rpartition('/')[0]}/")):  # and of nodes 0 that were killed
                self._store.delete(key)

    def _wait_for_others(self) -> None:
        while self.node.rank == 0:
            self._hear(list(self._others))
            staying = [rank for rank, record in self._others.items() if not record.left]
            if not any(time.monotonic() - self._heard[rank] < _ECHO_SECONDS for rank in staying):
                return
            time.sleep(_BEAT_SECONDS / 2)

    def _failed(self, rank: int, record: _Record) -> GangError:
        told = record.error or {}
        where, hint = str(told.get("where", "")), str(told.get("hint", ""))
        text = f"node {rank} of {self.node.nodes} failed: {told.get('error')}: {told.get('message')}"
        error = GangError(text, where=where, hint=hint, node=rank)
        error.kind = FailureKind(told.get("kind", FailureKind.SYSTEM.value))
        return error

    def _gone(self, rank: int) -> GangError:
        return GangError(
            f"lost connection: node {rank} of {self.node.nodes} went away",
            hint="see how its pod ended; training goes on from its last checkpoint",
            node=rank,
        )


@contextmanager
def membership(gang: Gang, stop: Stop) -> Iterator[None]:
    """Finds the other nodes, and tells them how this one ended; the error that comes out is the cause, not an echo."""
    try:
        gang.find(stop)
        yield
    except WindtunnelError as error:
        told = gang.explain(error)
        gang.leave(told)
        if told is error:
            raise
        raise told from error
    gang.leave(None)


def is_echo(message: str) -> bool:
    """Whether an error only tells that connections to others were lost: they are the ones to ask why."""
    known = cause([message])
    return known is not None and known[0] is Ending.COMMUNICATION


def _name(rank: int) -> str:
    return f"windtunnel/node/{rank}"
