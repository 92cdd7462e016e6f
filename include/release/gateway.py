"""What the release engine asks of the place where models are served: to be ready, to follow, and what it counted."""

from __future__ import annotations

from typing import Any

from include.release.routing import RoutingTable
from include.settings import Settings
from include.spec.rollout import ReleaseSpec
from include.targets.asking import LOAD_SECONDS
from include.targets.contract import GatewayError
from include.targets.open import managed, open_target

__all__ = ["GatewayError", "prepare", "stats", "wait_for_generation"]


def prepare(settings: Settings, release: ReleaseSpec) -> None:
    """Before a rollout: the target is as its spec says, and can do what the stages ask for.

    A local gateway is kept running by whoever started it, and is left alone.

    Raises:
        UserError: The target cannot do that, or its spec is refused.
        TargetError: It does not come up.
    """
    target = open_target(settings)
    target.check(release)
    if managed(settings):
        target.deploy()


def stats(settings: Settings, family: str, generation: int) -> dict[str, Any]:
    """What the variants of a generation did so far, in all gateways together.

    Raises:
        GatewayError: A gateway is away, or this generation was never loaded there.
    """
    return open_target(settings).stats(family, generation)


def wait_for_generation(
    settings: Settings,
    family: str,
    generation: int,
    *,
    table: RoutingTable | None = None,
    timeout: float = LOAD_SECONDS,
) -> float:
    """Waits until every gateway serves `generation` or a newer one; returns the seconds that took.

    Args:
        table: What they must serve under exactly this generation.

    Raises:
        GatewayError: One of them cannot load that generation, serves another table under its number (then it reads
            another ledger), or the time is over.
    """
    return open_target(settings).follow(family, generation, table, timeout)
