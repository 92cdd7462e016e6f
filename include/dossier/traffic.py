"""Who answers how much, now and at any time before: from the routing tables alone. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from include.lineage.records import periods
from include.release.ledger import Route
from include.release.rollback import served_fully
from include.release.routing import Role


def split_of(route: Route) -> dict[str, Any]:
    """What a generation means: `generation`, `since`, `reason`, `actor`, `stage`, `rollout`, `variants` with shares."""
    table = route.table
    return {
        "generation": route.generation,
        "since": route.at.isoformat(),
        "reason": route.reason,
        "actor": route.actor,
        "stage": table.stage,
        "rollout": table.rollout,
        "variants": [
            {
                "version": variant.version,
                "digest": variant.digest,
                "role": variant.role.value,
                "share": round(table.shares[variant.version], 6),
                "shadow": table.shadow and variant.role is Role.CHALLENGER,
            }
            for variant in table.variants
        ],
    }


def traffic_of(routes: Sequence[Route], version: str | None) -> list[dict[str, Any]]:
    """The times in which `version` was in the routing table in one way, the oldest first. None: of all versions.

    Args:
        routes: The oldest first.

    Returns:
        Records of `include.lineage.records.Period`, with `seconds` (None while it lasts).
    """
    found = []
    for period in periods(routes):
        if version is not None and period.version != version:
            continue
        ended = period.until
        found.append(
            {
                **vars(period),
                "share": round(period.share, 6),
                "since": period.since.isoformat(),
                "until": ended.isoformat() if ended else None,
                "seconds": round((ended - period.since).total_seconds(), 3) if ended else None,
            }
        )
    return found


def way_back(routes: Sequence[Route]) -> str | None:
    """The version that a rollback would try first; None where nothing else ever served everything."""
    if not routes:
        return None
    bad = routes[-1].table.variants[-1]
    served = served_fully(reversed(routes), without=bad.version)
    return served[0].version if served else None
