"""What the nodes of a gang tell each other: a notice each, in the c10d store that node 0 holds."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from include.errors import FailureKind, WindtunnelError
from include.failures.endings import Ending
from include.failures.log_lines import cause
from include.training.node import Meeting, Node

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

_CONNECT_SECONDS = 5.0


class GangError(WindtunnelError):
    """Another node failed or went away; of the kind that its own error was."""


@dataclass
class Notice:
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


class Board:
    """This node's notice and those of the others. Calls to a store whose node is gone raise torch's `RuntimeError`.

    Attributes:
        others: Rank -> the newest notice that was heard.
    """

    def __init__(self, node: Node, facts: Mapping[str, Any]) -> None:
        self.own = Notice(dict(facts))
        self.others: dict[int, Notice] = {}
        self._node = node
        self._heard: dict[int, float] = {}
        self._store: TCPStore | None = None

    @property
    def connected(self) -> bool:
        return self._store is not None

    def connect(self, meeting: Meeting, listening: socket.socket | None) -> None:
        """Opens the store at the meeting's place; node 0 holds it, on the socket that listens there."""
        from torch._C._distributed_c10d import TCPStore

        options: dict[str, Any] = {"timeout": timedelta(seconds=_CONNECT_SECONDS), "wait_for_workers": False}
        if listening is not None:
            options |= {"is_master": True, "master_listen_fd": listening.detach()}
        self._store = TCPStore(meeting.host, meeting.port, **options)

    def give_up_after(self, seconds: float) -> None:
        """From now on calls to a store whose machine is away fail after this time; they would wait for minutes."""
        self._opened().set_timeout(timedelta(seconds=seconds))

    def tell(self) -> None:
        """Puts up this node's notice."""
        self.own.beat += 1
        self._opened().set(_name(self._node.rank), json.dumps(asdict(self.own), default=str))

    def present(self, ranks: Sequence[int]) -> list[int]:
        """Those that have told something."""
        return [rank for rank in ranks if self._opened().check([_name(rank)])]

    def hear(self, ranks: Sequence[int]) -> None:
        """Reads the notices of nodes that have told something."""
        if not ranks:
            return
        for rank, told in zip(ranks, self._opened().multi_get([_name(rank) for rank in ranks]), strict=True):
            notice = Notice(**json.loads(told))
            if rank not in self.others or self.others[rank].beat != notice.beat:
                self._heard[rank] = time.monotonic()
            self.others[rank] = notice

    def silent(self, seconds: float) -> list[int]:
        """Nodes that have not left and were not heard of for so long."""
        now = time.monotonic()
        return [rank for rank, heard in self._heard.items() if not self.others[rank].left and now - heard > seconds]

    def staying(self) -> list[int]:
        """Nodes that have not left."""
        return [rank for rank, notice in self.others.items() if not notice.left]

    # Errors about others ----------------------------------------------------------------------------------------------
    def failed(self, rank: int) -> GangError:
        """Why a node failed, as it told."""
        told = self.others[rank].error or {}
        where, hint = str(told.get("where", "")), str(told.get("hint", ""))
        text = f"node {rank} of {self._node.nodes} failed: {told.get('error')}: {told.get('message')}"
        error = GangError(text, where=where, hint=hint, node=rank)
        error.kind = FailureKind(told.get("kind", FailureKind.SYSTEM.value))
        return error

    def gone(self, rank: int) -> GangError:
        """A node is not heard of any more."""
        return GangError(
            f"lost connection: node {rank} of {self._node.nodes} went away",
            hint="see how its pod ended; training goes on from its last checkpoint",
            node=rank,
        )

    def _opened(self) -> TCPStore:
        assert self._store is not None
        return self._store


def is_echo(message: str) -> bool:
    """Whether an error only tells that connections to others were lost: they are the ones to ask why."""
    known = cause([message])
    return known is not None and known[0] is Ending.COMMUNICATION


def _name(rank: int) -> str:
    return f"windtunnel/node/{rank}"
