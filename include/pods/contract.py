"""What a place that runs steps must do, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from include.errors import WindtunnelError


class PodError(WindtunnelError):
    """A pod could not be started, watched or stopped."""


class PodPhase(str, Enum):
    """Where a pod is in its life."""

    ABSENT = "absent"  # never started
    RUNNING = "running"
    SUCCEEDED = "succeeded"  # exit status 0
    FAILED = "failed"  # another exit status, or killed by a signal
    LOST = "lost"  # it ended without leaving an exit status: its supervisor was killed or the machine went down


#: The pod holds no process any more.
ENDED_PHASES = frozenset({PodPhase.SUCCEEDED, PodPhase.FAILED, PodPhase.LOST})


@dataclass(frozen=True)
class PodLimits:
    """What a pod and all that it starts may use together; None: as much as there is.

    Attributes:
        memory_bytes: Beyond it, the pod is killed or refused memory, and its end is one for want of memory.
        cpus: Cores.
    """

    memory_bytes: int | None = None
    cpus: float | None = None


@dataclass(frozen=True)
class PodSpec:
    """What to run.

    Attributes:
        name: Unique and the same for every attempt at the same work, so that a retry finds what is running.
        command: Program and arguments.
        env: Variables added to the environment. No secrets: they are written down beside the log.
        secrets: More variables, which are handed to the process and never written down.
        limits: Kept where the system can; the log says where it cannot.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: PodLimits = PodLimits()


@dataclass(frozen=True)
class PodUsage:
    """What a pod and all that it started used.

    Attributes:
        seconds: From start to end.
        cpu_seconds: Of all its processes; None where nobody measured them.
        peak_bytes: Resident memory of its largest process.
    """

    seconds: float
    cpu_seconds: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class PodStatus:
    """A pod's phase, and how it ended.

    Attributes:
        exit_code: 128 + n where signal n ended it; None while it runs and where it was lost.
        attempt: Names this start of the pod among all of them.
        usage: Known once it ended.
        stopped: It was told to stop.
        oom_kills: Processes that the kernel killed for want of memory in its control group while it ran.
    """

    phase: PodPhase
    exit_code: int | None = None
    attempt: str = ""
    usage: PodUsage | None = None
    stopped: bool = False
    oom_kills: int = 0


class PodRunner(Protocol):
    """Runs pods by name. All methods may be called from any process, also after the one that called `start` died."""

    def start(self, spec: PodSpec) -> bool:
        """Starts the pod unless one of this name is running.

        Returns whether it was started (False: it was found running). A pod of this name that ended is replaced.
        Raises `PodError` when it does not come up.
        """
        ...

    def status(self, name: str) -> PodStatus:
        """The pod's phase now."""
        ...

    def logs(self, name: str, offset: int) -> bytes:
        """Log output from byte `offset` on, of the current attempt; empty while there is no more."""
        ...

    def stop(self, name: str, grace_seconds: float) -> None:
        """Ends the pod and all it started: SIGTERM, and SIGKILL after the grace. No error if it is not running."""
        ...
