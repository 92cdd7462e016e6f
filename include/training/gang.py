"""Several pods that train one model: how they find each other, hear of each other's end, and agree to stop.

Each pod is a node of the gang and runs its own training processes (`include.training.ranks`). Node 0 holds a c10d store
(torch's `TCPStore`, which torchrun's rendezvous is made of, too) and tells its address in the object store, which every
pod reaches: no name service is needed, and the pods may start in any order. Twice a second each node puts up a notice
there and reads those of the others (`gang_board`): that it is there, that it was asked to stop, how it left.

A node that fails or falls silent ends all of them, within seconds, and not after the half hour that collectives wait.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from include.errors import WindtunnelError
from include.store.objects import ObjectNotFound, ObjectStore
from include.training.gang_board import Board, GangError, is_echo
from include.training.node import Meeting, Node
from include.training.stop import Stop, Stopped

_BEAT_SECONDS = 0.5
#: A node that was not heard of for so long is gone. Well above what a crowded machine keeps a thread waiting.
_SILENCE_SECONDS = 20.0
#: How long a node whose own error is only an echo ("connection closed") waits to hear what the cause was.
_ECHO_SECONDS = 5.0


class RendezvousError(WindtunnelError):
    """The nodes did not all come together in time, or do not do the same work."""


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
        self._board = Board(node, facts)
        self._listening: socket.socket | None = None
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
        board, ranks = self._board, [rank for rank in range(self.node.nodes) if rank != self.node.rank]
        self._poll(self._connected, stop, "node 0 does not answer")
        board.tell()

        def all_there() -> bool:
            board.hear(board.present(ranks))
            self._check_others()
            return len(board.others) == len(ranks)

        def missing() -> str:
            names = ", ".join(str(rank) for rank in ranks if rank not in board.others)
            return f"node {names} of {self.node.nodes} did not come"

        self._poll(all_there, stop, missing)
        board.give_up_after(_SILENCE_SECONDS)
        self._beating = threading.Thread(target=self._beat, args=(stop,), daemon=True)
        self._beating.start()

    def _check_others(self) -> None:
        own = self._board.own.facts
        for rank, notice in self._board.others.items():
            if notice.facts != own:
                raise RendezvousError(
                    f"node {rank} is about to do other work: {notice.facts}, and node {self.node.rank}: {own}"
                )
            if notice.left == "failed" and (notice.error or {}).get("error") == RendezvousError.__name__:
                raise RendezvousError(str((notice.error or {}).get("message")))
            if notice.left == "failed":
                raise self._board.failed(rank)
            if notice.left == "stopped":
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

    def _connected(self) -> bool:
        assert self.meeting is not None
        self._board.connect(self.meeting, self._listening)
        return True

    # While it trains --------------------------------------------------------------------------------------------------
    @property
    def trouble(self) -> GangError | None:
        """Why this node cannot go on although its own processes could."""
        if self._lost is not None or self._beating is None:
            return self._lost
        silent = self._board.silent(_SILENCE_SECONDS)
        for rank, notice in sorted(self._board.others.items(), key=lambda item: item[1].echo):
            if notice.left == "failed":
                return self._board.failed(rank)
            if rank in silent:
                return self._board.gone(rank)
        return None

    def _beat(self, stop: Stop) -> None:
        board = self._board
        while not self._done.wait(_BEAT_SECONDS):
            try:
                self._agree(stop)
                board.tell()
                board.hear(list(board.others))
            except RuntimeError:  # torch's errors of a store whose node is gone
                if not board.others.get(0, board.own).left:
                    self._lost = board.gone(0)
                return

    def _agree(self, stop: Stop) -> None:
        """Passes on that some node was asked to stop, and after which step; see `include.training.stop`."""
        own, others = self._board.own, self._board.others
        if stop.requested or any(notice.stopping for notice in others.values()):
            stop.request()
        own.stopping = stop.requested
        if self.node.rank == 0:
            own.stop_at = stop.at_step
            if stop.at_step >= 0 and all(each.left or each.agreed == stop.at_step for each in others.values()):
                stop.all_agreed()
        elif others[0].stop_at >= 0:
            stop.agree(others[0].stop_at)
            own.agreed = stop.at_step

    # Leaving ----------------------------------------------------------------------------------------------------------
    def explain(self, error: WindtunnelError) -> WindtunnelError:
        """The error to report: the cause on another node where this node's own is only its echo."""
        if self._beating is None or not is_echo(error.message):
            return error
        deadline = time.monotonic() + _ECHO_SECONDS
        while time.monotonic() < deadline:
            if self._lost is not None:
                return self._lost
            for rank, notice in self._board.others.items():
                if notice.left == "failed" and not notice.echo:
                    return self._board.failed(rank)
            time.sleep(_BEAT_SECONDS / 2)
        silent = self._board.silent(_ECHO_SECONDS / 2)
        return self._board.gone(silent[0]) if silent else error

    def leave(self, error: WindtunnelError | None) -> None:
        """Tells the others how this node left; node 0 stays until they heard it."""
        self._done.set()
        if self._beating is not None:
            self._beating.join(timeout=_ECHO_SECONDS)
        own = self._board.own
        own.left = "done" if error is None else "stopped" if isinstance(error, Stopped) else "failed"
        if own.left == "failed" and error is not None:
            own.error, own.echo = error.to_json(), is_echo(error.message) or isinstance(error, GangError)
        stuck = self._beating is not None and self._beating.is_alive()  # in a call to a store that is silent
        if self._board.connected and not stuck:
            with suppress(RuntimeError):
                self._board.tell()
                self._wait_for_others()
        if self.node.rank == 0:
            for key in list(self._store.keys(f"{self._key.rpartition('/')[0]}/")):  # and of nodes 0 that were killed
                self._store.delete(key)

    def _wait_for_others(self) -> None:
        board = self._board
        while self.node.rank == 0:
            board.hear(list(board.others))
            if set(board.staying()) <= set(board.silent(_ECHO_SECONDS)):
                return
            time.sleep(_BEAT_SECONDS / 2)


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
