"""What a place that serves models must do, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from include.errors import WindtunnelError
from include.release.routing import RoutingTable
from include.spec.rollout import ReleaseSpec


class TargetError(WindtunnelError):
    """The target could not be brought up, asked, scaled or taken down."""


class GatewayError(TargetError):
    """The gateways cannot be reached, or did not take over a routing table."""


class TargetPhase(str, Enum):
    """What a target is as a whole."""

    ABSENT = "absent"
    PROGRESSING = "progressing"  # gateways are being started, replaced or taken away
    READY = "ready"  # as many gateways as were asked for answer, all of them of the newest kind
    DEGRADED = "degraded"  # it serves, but not as it should, or not at all; `why` says


@dataclass(frozen=True)
class Replica:
    """One gateway.

    Attributes:
        image: What runs, by digest where the container runtime tells it.
        current: It is of the newest kind that was deployed.
        since: When it started.
        restarts: How often its container was started again.
        generations: Family -> generation of the routing table that it serves; empty where it could not be asked.
        why: Why it does not serve; empty where it does.
    """

    name: str
    ready: bool
    address: str = ""
    image: str = ""
    current: bool = True
    since: datetime | None = None
    restarts: int = 0
    generations: Mapping[str, int] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True)
class TargetStatus:
    """What runs.

    Attributes:
        where: Namespace and name, or address.
        image: What should run.
        wanted: How many gateways should serve, by what holds now.
        floor, ceiling: Between which the autoscaler may choose; both None where there is none.
        since: Since when it is as it is; None where nobody knows.
        why: Sentences on what is not as it should be.
        left_out: What the cluster does not know and so does without, such as `ServiceMonitor`.
        models: Family -> model versions with their share of the traffic and digest, by the newest routing table that a
            gateway serves.
    """

    kind: str
    where: str
    phase: TargetPhase
    image: str = ""
    wanted: int = 0
    floor: int | None = None
    ceiling: int | None = None
    since: datetime | None = None
    replicas: tuple[Replica, ...] = ()
    why: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    models: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)

    @property
    def ready(self) -> int:
        """How many gateways answer."""
        return sum(replica.ready for replica in self.replicas)

    def to_json(self) -> dict[str, Any]:
        """A JSON-serialisable record."""
        record = asdict(self)
        record["phase"], record["ready"] = self.phase.value, self.ready
        record["since"] = self.since.isoformat() if self.since else None
        for shown, replica in zip(record["replicas"], self.replicas, strict=True):
            shown["since"] = replica.since.isoformat() if replica.since else None
        return record


@dataclass(frozen=True)
class Deployed:
    """What `deploy` did.

    Attributes:
        changed: Objects that are not as they were, such as `Deployment windtunnel-gateway`.
        taken_back: Fields that somebody else had set, and that are again as the spec says.
        left_out: What the cluster does not know.
        seconds: Until it served, or stood ready to.
    """

    changed: tuple[str, ...] = ()
    taken_back: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    seconds: float = 0.0


class ServingTarget(Protocol):
    """A place that serves models.

    Which model answers whom is the routing table's to say, in the ledger, and never the target's. All methods may be
    called from any process, at the same time, again, and after a process died in any of them: the truth is in the
    place itself. All raise `TargetError` where it cannot be asked.
    """

    def check(self, release: ReleaseSpec) -> None:
        """Raises `UserError` where the target cannot do what a stage asks for."""
        ...

    def deploy(self) -> Deployed:
        """Makes what runs what the spec says, and waits until it serves, or, before the first release, would.

        What ran before goes on serving until then, and where the new does not come up. Raises `TargetError` that says
        why not, and `UserError` where the place refuses what the spec says.
        """
        ...

    def status(self) -> TargetStatus:
        """What runs now."""
        ...

    def scale(self, replicas: int | None) -> TargetStatus:
        """Asks for at least so many gateways, until told otherwise; None: as many as the spec says. Does not wait.

        Raises `UserError` where nothing is deployed or the number cannot be had.
        """
        ...

    def undeploy(self) -> bool:
        """Takes away all that `deploy` made, and waits until it is gone; False where there was nothing."""
        ...

    def follow(self, family: str, generation: int, table: RoutingTable | None = None, timeout: float = 120.0) -> float:
        """Waits until every gateway that answers serves `generation` or a newer one; returns the seconds that took.

        Args:
            table: What they must serve under exactly this generation.

        Raises `GatewayError`: one of them cannot load it, serves another table under its number (then it reads another
        ledger), or the time is over.
        """
        ...

    def stats(self, family: str, generation: int) -> dict[str, Any]:
        """What the variants of a generation did so far, in all gateways together (as `/v1/stats` of one).

        Raises `GatewayError` where none answers or the generation never served.
        """
        ...
