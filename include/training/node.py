"""Which of the pods that train one model a process is in, and where their processes meet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from include.errors import UserError


@dataclass(frozen=True)
class Node:
    """Which node of how many this process is, as torchrun's own variables say.

    Attributes:
        gang: Names this try, the same in all its pods, so that no pod of an earlier try is met.
        endpoint: `host:port` of node 0 where the one who starts the pods knows it; "": node 0 tells it.
        address: Of this pod, in the network that the pods share.
    """

    rank: int = 0
    nodes: int = 1
    gang: str = ""
    endpoint: str = ""
    address: str = "127.0.0.1"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Node:
        """From `PET_NNODES`, `PET_NODE_RANK`, `PET_RDZV_ID`, `PET_RDZV_ENDPOINT` and `PET_LOCAL_ADDR`.

        Raises:
            UserError: They make no sense.
        """
        env = os.environ if environ is None else environ
        nodes, rank = env.get("PET_NNODES", "1"), env.get("PET_NODE_RANK", "0")
        if not nodes.isdecimal() or not rank.isdecimal() or not int(rank) < int(nodes):
            raise UserError(f"there is no node {rank!r} of {nodes!r}", where="PET_NODE_RANK, PET_NNODES")
        node = cls(
            int(rank),
            int(nodes),
            env.get("PET_RDZV_ID", ""),
            env.get("PET_RDZV_ENDPOINT", ""),
            env.get("PET_LOCAL_ADDR") or "127.0.0.1",
        )
        if node.nodes > 1 and not node.gang:
            raise UserError("several nodes need a name that is new for each try", where="PET_RDZV_ID")
        return node

    def to_env(self) -> dict[str, str]:
        """The variables for another process."""
        variables = {
            "PET_NNODES": str(self.nodes),
            "PET_NODE_RANK": str(self.rank),
            "PET_RDZV_ID": self.gang,
            "PET_RDZV_ENDPOINT": self.endpoint,
            "PET_LOCAL_ADDR": self.address,
        }
        return {name: value for name, value in variables.items() if value}

    def check(self, nodes: int) -> None:
        """Raises `UserError` unless the spec asks for as many nodes as were started."""
        if nodes != self.nodes:
            raise UserError(
                f"the spec asks for {nodes} node(s) and {self.nodes} were started",
                where="trainer.nodes",
                hint="start the step from its pipeline, or set PET_NNODES and PET_NODE_RANK in each pod",
            )


@dataclass(frozen=True)
class Meeting:
    """Where training processes of several nodes meet."""

    host: str
    port: int
    address: str
    gang: str
