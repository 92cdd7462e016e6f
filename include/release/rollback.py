"""Where traffic goes back to: the version that last served everything, and that still loads.

Nothing is guessed from version numbers. The ledger holds every routing table there was; the newest one without a
challenger, before the trouble began, names what served at 100%. If its package is gone or altered the one before is
taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from include.data.recalls import recalled_datasets
from include.errors import UserError
from include.lineage.release_events import teller
from include.release.gateway import wait_for_generation
from include.release.ledger import Event, Ledger, Route
from include.release.packages import verify_usable
from include.release.registry import list_versions
from include.release.routing import Role, RoutingTable, Variant
from include.serving.package import PackageError
from include.settings import Settings
from include.store.database import open_database


def served_fully(routes: Iterable[Route], *, without: str, rollout: str | None = None) -> list[Variant]:
    """Versions that served all traffic, the latest first, each once. Pure.

    Args:
        routes: Routing tables, the newest first.
        without: The version to get away from.
        rollout: Its rollout; tables of this rollout do not count.
    """
    found: dict[str, Variant] = {}
    for route in routes:
        table = route.table
        settled = len(table.variants) == 1 and not table.stage
        if settled and table.champion.version != without and (rollout is None or table.rollout != rollout):
            found.setdefault(table.champion.version, table.champion)
    return list(found.values())


def first_that_loads(settings: Settings, family: str, variants: Iterable[Variant]) -> tuple[Variant | None, list[str]]:
    """The first variant whose package is whole, and why those before it were passed over."""
    passed_over = []
    for variant in variants:
        try:
            verify_usable(settings, family, variant.digest)
        except PackageError as error:
            passed_over.append(f"{variant.version} does not load any more: {error.message}")
        else:
            return variant, passed_over
    return None, passed_over


def revert(settings: Settings, family: str, *, to: str | None, reason: str, actor: str, at: datetime) -> dict[str, Any]:
    """Takes all traffic back to a version that served before; for a person on call.

    A rollout that is under way ends with it: its next step finds other traffic than it left, and stops.

    Args:
        to: The version to go back to; None: the last one that served everything, still loads, and was not trained on
            recalled data.

    Raises:
        UserError: There is no such version, or it never served.
        StaleRoute: Somebody else changed the traffic at the same moment.
    """
    ledger = Ledger(open_database(settings.database_url), teller(settings))
    current = ledger.route(family)
    if current is None:
        raise UserError(f"nothing serves in {family}", hint="there is no traffic to take back")
    bad = current.table.variants[-1]  # the champion only where it answers alone
    away_from = bad.version if to is None or bad is current.table.champion else ""
    served = served_fully([current, *ledger.routes_before(family, current.generation)], without=away_from)
    recalled = _recalled(settings, family) if to is None else set()
    wanted = [
        variant for variant in served if (to is None or variant.version == to) and variant.version not in recalled
    ]
    target, passed_over = first_that_loads(settings, family, wanted)
    passed_over += [f"{variant.version} holds recalled data" for variant in served if variant.version in recalled]
    if target is None:
        known = ", ".join(variant.version for variant in served) or "(none)"
        raise UserError(
            f"there is no version {to or 'to go back to'} of {family} that served all traffic and still loads",
            where="; ".join(passed_over),
            hint=f"versions that served: {known}",
        )
    generation = ledger.swap_route(family, current.generation, all_to(target), reason=reason, actor=actor, at=at)
    record = {
        "reason": reason,
        "to": target.version,
        "from": bad.version,
        "generation": generation,
        "changed": True,
        "passed_over": passed_over,
    }
    ledger.append(
        family,
        Event.ROLLED_BACK,
        key=f"reverted:{generation}",
        actor=actor,
        at=at,
        model_version=bad.version,
        record=record,
    )
    record["gateway_seconds"] = round(wait_for_generation(settings, family, generation), 3)
    return record


def _recalled(settings: Settings, family: str) -> set[str]:
    """Model versions that were trained on recalled data."""
    datasets = recalled_datasets(settings, family)
    known = list_versions(open_database(settings.database_url), family) if datasets else []
    return {version.version for version in known if not datasets.isdisjoint(version.data)}


def all_to(variant: Variant, rollout: str = "") -> RoutingTable:
    """The routing table in which `variant` answers everything."""
    champion = Variant(role=Role.CHAMPION, version=variant.version, digest=variant.digest)
    return RoutingTable(champion=champion, rollout=rollout)
