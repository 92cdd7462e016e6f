"""The agreement of training processes to stop: all save after the same optimizer step, and leave."""

from __future__ import annotations

import multiprocessing
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from include.errors import WindtunnelError


class Stopped(WindtunnelError):
    """Training was asked to stop; it saved a checkpoint and goes on from there when it is started again."""


def context() -> Any:
    """Fork where it is safe; macOS' system libraries do not survive it."""
    return multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


@dataclass
class Stop:
    """The agreement, in memory that all ranks of a node share.

    Rank 0 sees a request after step s and names step s + 1. No other rank can end that step without rank 0, because
    gradients are exchanged in it; so all ranks of its node read the agreement in time. Ranks of other nodes do, because
    rank 0 does not begin that step before their nodes have said that they know it (`include.training.gang`). No step
    costs a message.

    Args:
        nodes: How many pods train together.
    """

    nodes: int = 1
    _requested: Any = field(default_factory=lambda: context().Value("b", 0))
    _at_step: Any = field(default_factory=lambda: context().Value("q", -1))
    _agreed: Any = field(default_factory=lambda: context().Value("b", 0))

    def request(self) -> None:
        self._requested.value = 1

    @property
    def requested(self) -> bool:
        return bool(self._requested.value)

    @property
    def at_step(self) -> int:
        """The step that was named; -1: none yet."""
        return int(self._at_step.value)

    def agree(self, step: int) -> None:
        """Node 0 named this step."""
        self._at_step.value = step

    def all_agreed(self) -> None:
        """All nodes know the step."""
        self._agreed.value = 1

    def due(self, step: int, rank: int, world: int) -> bool:
        """Whether this rank must save and leave after optimizer step `step`."""
        if rank == 0 and self.requested and self.at_step < 0:
            self._at_step.value = step + (1 if world > 1 else 0)
            several = self.nodes > 1
            while several and not self._agreed.value:  # not for ever: where a node is gone, this process is ended
                time.sleep(0.01)
        return 0 <= self.at_step <= step
