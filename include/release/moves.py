"""Every move of a rollout's traffic: a compare-and-swap on the ledger, of which MLflow is told afterwards."""

from __future__ import annotations

import logging
from datetime import datetime

from include.release.ledger import Ledger, Route
from include.release.registry import sync_aliases
from include.release.routing import RoutingTable
from include.settings import Settings

log = logging.getLogger(__name__)

#: How often somebody who moves or says something tries again when somebody else was faster.
TRIES = 5


def swap(
    ledger: Ledger, family: str, expected: int, table: RoutingTable, reason: str, actor: str, at: datetime
) -> Route:
    """Makes `table` the routing table if `expected` is still the newest generation. Raises `StaleRoute` otherwise."""
    generation = ledger.swap_route(family, expected, table, reason=reason, actor=actor, at=at)
    return Route(generation, table, reason, actor, at)


def show_in_mlflow(settings: Settings, family: str) -> str:
    """Brings MLflow's aliases into step; says why where that failed, else nothing.

    What serves is decided by now: trouble there must not undo it.
    """
    try:
        sync_aliases(settings, family)
    except Exception as error:  # MLflow is a display of the ledger here; whatever it raises, traffic stays as decided
        log.warning("MLflow's aliases of %s could not be set, the next release sets them: %s", family, error)
        return f"MLflow's aliases could not be set: {error}"
    return ""
