"""The first champion: a baseline that serves before any candidate has proved itself.

With it even the first candidate is judged against an incumbent on live traffic. The baseline was evaluated beside the
candidate, in the serving runtime, so it is known to load and answer; its package is verified once more before it
serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from include.errors import UserError
from include.release.gateway import wait_for_generation
from include.release.ledger import Event, Ledger, Route
from include.release.packages import verify_stored
from include.release.registry import ModelVersion, Registration, register
from include.release.routing import Role, RoutingTable, Variant
from include.release.versioning import next_baseline
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.fingerprint import fingerprint
from include.store.database import open_database

#: The verdict of a baseline: it was evaluated, and no gate was asked whether it may fly.
BASELINE_VERDICT = "BASELINE"


def bootstrap(
    settings: Settings, spec: FamilySpec, candidate: ModelVersion, *, actor: str, at: datetime
) -> Route | None:
    """Lets the spec's bootstrap baseline serve, where nothing serves yet. Returns the route that holds afterwards.

    Raises:
        UserError: The spec names a baseline that was not evaluated with the candidate.
        PackageError: Its package is missing or altered.
        StaleRoute: Something began to serve at this very moment.
    """
    ledger = Ledger(open_database(settings.database_url))
    name, route = spec.release.bootstrap, ledger.route(spec.family)
    if name is None:
        return route
    if route is not None:
        _note(ledger, spec.family, route, name, actor, at)
        return route
    found = candidate.record["baselines"].get(name)
    if found is None:
        raise UserError(
            f"the baseline {name!r} was not evaluated with {candidate.version}",
            where="release.bootstrap",
            hint=f"evaluated: {', '.join(sorted(candidate.record['baselines'])) or '(none)'}",
        )
    verify_stored(settings, spec.family, found["digest"])
    row = _register(settings, spec, candidate, name, found, actor, at)
    table = RoutingTable(champion=Variant(role=Role.CHAMPION, version=row.version, digest=row.digest))
    generation = ledger.swap_route(spec.family, 0, table, reason=_reason(name), actor=actor, at=at)
    swapped = ledger.route(spec.family, generation)
    if swapped is not None:
        _note(ledger, spec.family, swapped, name, actor, at)
    wait_for_generation(settings, spec.family, generation, table=table)
    return swapped


def _note(ledger: Ledger, family: str, route: Route, name: str, actor: str, at: datetime) -> None:
    """Adds the ledger entry, unless it is there; a try may have died after it moved the traffic."""
    if route.generation == 1 and route.reason == _reason(name):
        ledger.append(
            family,
            Event.BOOTSTRAPPED,
            key="bootstrapped",
            actor=actor,
            at=at,
            model_version=route.table.champion.version,
            record={"baseline": name, "digest": route.table.champion.digest, "generation": route.generation},
        )


def _reason(name: str) -> str:
    return f"bootstrap: {name} serves until a candidate has proved itself"


def _register(
    settings: Settings,
    spec: FamilySpec,
    candidate: ModelVersion,
    name: str,
    found: dict[str, Any],
    actor: str,
    at: datetime,
) -> ModelVersion:
    def choose(known: Sequence[ModelVersion]) -> tuple[str, dict[str, Any]]:
        return next_baseline(version.version for version in known), {}

    entry = Registration(
        family=spec.family,
        fingerprint=fingerprint(family=spec.family, digest=found["digest"], baseline=name),
        digest=found["digest"],
        verdict=BASELINE_VERDICT,
        releasable=False,
        dataset_version=candidate.dataset_version,
        code_version=candidate.record["code_version"],
        record={
            "baseline": name,
            "metrics": found["metrics"],
            "report_key": candidate.record["report_key"],
            "signature": candidate.record["signature"],
            "run": candidate.record["run"],
            "creator": actor,
            "baselines": {},
        },
        choose=choose,
        description=f"{spec.title}: the baseline {name}, without training",
        tags={"baseline": name},
    )
    row, _ = register(settings, entry, actor=actor, at=at)
    return row
