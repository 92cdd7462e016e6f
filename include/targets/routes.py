"""What gateways say of the routing tables that they serve, as a status shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from include.release.routing import RoutingTable

Routes = Mapping[str, Mapping[str, Any]]


def generations(routes: Routes) -> dict[str, int]:
    """Family -> generation that serves."""
    return {family: int(found["generation"]) for family, found in routes.items() if found.get("generation") is not None}


def models(shown: Iterable[Routes]) -> dict[str, tuple[dict[str, Any], ...]]:
    """Family -> versions with role, share and digest, by the newest table that one of several gateways serves."""
    newest: dict[str, Mapping[str, Any]] = {}
    for routes in shown:
        for family, found in routes.items():
            known = newest.get(family)
            if found.get("table") and (known is None or found["generation"] > known["generation"]):
                newest[family] = found
    return {family: _variants(found) for family, found in sorted(newest.items())}


def complaints(routes: Routes) -> list[str]:
    """What keeps a gateway from following the ledger."""
    said = []
    for family, found in sorted(routes.items()):
        if failed := found.get("failed"):
            said.append(f"{family}: generation {failed['generation']} cannot be loaded: {failed['error']}")
        if away := found.get("ledger_error"):
            said.append(f"{family}: the ledger cannot be read: {away}")
    return said


def _variants(found: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    table = RoutingTable.model_validate(found["table"])
    shares = table.shares
    return tuple(
        {
            "version": variant.version,
            "role": variant.role.value,
            "share": round(shares[variant.version], 6),
            "shadow": table.shadow and variant == table.challenger,
            "digest": variant.digest,
            "generation": int(found["generation"]),
        }
        for variant in table.variants
    )
