"""Reads what lineage is made of: dataset versions with their manifests, registered models, and who served when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from include.data.catalogue import VersionEntry
from include.data.datasets import list_versions, read_manifest
from include.data.manifest import Manifest
from include.release.ledger import Ledger, Route
from include.release.registry import ModelVersion
from include.release.registry import list_versions as list_models
from include.release.routing import Role
from include.settings import Settings
from include.store.database import open_database
from include.store.objects import open_store

_ALL = 1_000_000


@dataclass(frozen=True)
class Dataset:
    """A dataset version and its manifest."""

    entry: VersionEntry
    manifest: Manifest


@dataclass(frozen=True)
class Records:
    """Everything of one family, each list the oldest first."""

    family: str
    datasets: Sequence[Dataset]
    models: Sequence[ModelVersion]
    routes: Sequence[Route]


@dataclass(frozen=True)
class Period:
    """A time in which a model version was in the routing table in one way.

    Attributes:
        share: Of the traffic that it answered; 0.0 in the shadow.
        until: None while it lasts.
    """

    version: str
    generation: int
    role: str
    share: float
    shadow: bool
    stage: str
    since: datetime
    until: datetime | None
    reason: str
    actor: str


def read_records(settings: Settings, family: str) -> Records:
    """Raises `ObjectNotFound` where the store lost a manifest."""
    engine, store = open_database(settings.database_url), open_store(settings.store_url)
    datasets = [Dataset(entry, read_manifest(store, entry)) for entry in list_versions(settings, family)]
    ledger = Ledger(engine)
    current = ledger.route(family)
    older = ledger.routes_before(family, current.generation, limit=_ALL) if current else []
    routes = [*reversed(older), *([current] if current else [])]
    return Records(family, list(reversed(datasets)), list_models(engine, family), routes)


def periods(routes: Sequence[Route]) -> list[Period]:
    """Who answered how much, and when: routing tables, the oldest first, as periods per version. Pure."""
    found: list[Period] = []
    running: dict[str, Period] = {}
    for route in routes:
        table, now = route.table, {}
        for variant in table.variants:
            now[variant.version] = Period(
                version=variant.version,
                generation=route.generation,
                role=variant.role.value,
                share=table.shares[variant.version],
                shadow=table.shadow and variant.role is Role.CHALLENGER,
                stage=table.stage,
                since=route.at,
                until=None,
                reason=route.reason,
                actor=route.actor,
            )
        for version, before in list(running.items()):
            if version not in now or _way(now[version]) != _way(before):
                found.append(_ended(running.pop(version), route.at))
        for version, period in now.items():
            running.setdefault(version, period)
    return sorted([*found, *running.values()], key=lambda period: (period.generation, period.version))


def _way(period: Period) -> tuple[str, float, bool]:
    return period.role, period.share, period.shadow


def _ended(period: Period, at: datetime) -> Period:
    return Period(**{**vars(period), "until": at})
