"""The registry: one row per model version here, one MLflow model version beside it, never two of either.

Our row decides. It is unique by (family, fingerprint), where the fingerprint says what the candidate is, and it is
written after the MLflow version exists: a process that dies between the two leaves an MLflow version that the next try
finds by its fingerprint and takes over. All of it happens under one lock per family, so that two processes neither
create twice nor compute the same version number. The ledger entry and the aliases come last and can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, RowMapping, insert, select

from include.costs.price import price_text
from include.errors import UserError, clip
from include.lineage.release_events import teller
from include.release.ledger import Event, Ledger
from include.release.locks import exclusive
from include.release.mlflow_registry import MlflowRegistry
from include.serving.package import package_prefix
from include.settings import Settings
from include.store import schema
from include.store.database import open_database
from include.store.objects import open_store

CHAMPION, CANDIDATE = "champion", "candidate"
#: The verdict of a candidate that its gates left open and a person accepted.
ACCEPTED = "ACCEPTED"
#: In place of MLflow's address: this installation shows its versions nowhere.
NO_MLFLOW = "none:"
_TAG_LENGTH = 4000


@dataclass(frozen=True)
class ModelVersion:
    """A registered model version.

    Attributes:
        id: Order of registration.
        fingerprint: What it is: package, dataset and purpose, hashed.
        digest: Of the model package.
        verdict: What its gates said.
        releasable: Whether it may serve; a backfill's candidate may not.
        record: Parameters, metrics, signature, code version, run, creator, size.
    """

    id: int
    family: str
    version: str
    fingerprint: str
    digest: str
    verdict: str
    releasable: bool
    mlflow_version: str
    dataset_version: str
    record: Mapping[str, Any]
    registered_at: datetime

    @property
    def is_baseline(self) -> bool:
        return "baseline" in self.record

    @property
    def data(self) -> list[str]:
        """The dataset versions that are in it: its own, and those of the models that it started or learned from."""
        return data_of(self.dataset_version, self.record.get("origins") or {})


def data_of(dataset_version: str, origins: Mapping[str, Any]) -> list[str]:
    """The dataset versions that are in a model, its own first.

    Args:
        origins: As the `fit` step tells them (`include.training.weights.Origins.facts`).
    """
    return list(dict.fromkeys([dataset_version, *(name for origin in origins.values() for name in origin["data"])]))


@dataclass(frozen=True)
class Registration:
    """What is to be registered; the version number is computed at that moment.

    Attributes:
        choose: Versions so far -> (version number, facts about the choice that are added to the record).
        tags: Further MLflow tags.
    """

    family: str
    fingerprint: str
    digest: str
    verdict: str
    releasable: bool
    dataset_version: str
    code_version: str
    record: Mapping[str, Any]
    choose: Callable[[Sequence[ModelVersion]], tuple[str, Mapping[str, Any]]]
    description: str
    tags: Mapping[str, str]


def register(settings: Settings, entry: Registration, *, actor: str, at: datetime) -> tuple[ModelVersion, bool]:
    """Registers `entry` once; the second value is False where it was registered before.

    Raises:
        RegistryError: MLflow refused or is away; nothing of ours was written, and a retry continues.
    """
    engine = open_database(settings.database_url)
    with exclusive(engine, f"register-{entry.family}"):
        known = list_versions(engine, entry.family)
        found = next((version for version in known if version.fingerprint == entry.fingerprint), None)
        row = found or _insert(settings, engine, entry, known, at)
    Ledger(engine, teller(settings)).append(
        entry.family,
        Event.REGISTERED,
        key=f"registered:{entry.fingerprint}",
        actor=actor,
        at=at,
        model_version=row.version,
        record={
            "digest": row.digest,
            "verdict": row.verdict,
            "releasable": row.releasable,
            "mlflow_version": row.mlflow_version,
            "dataset_version": row.dataset_version,
            "change": row.record.get("change"),
            "why": row.record.get("change_why"),
            "cost": price_text(row.record.get("cost") or {}),
            "report_digest": row.record.get("report_digest"),
            "card_digest": row.record.get("card_digest"),
            "steps_done_again": (row.record.get("work_lost") or {}).get("steps"),
            "adjusted": sorted(row.record.get("adjusted") or {}),
        },
    )
    return row, found is None


def list_versions(engine: Engine, family: str) -> list[ModelVersion]:
    """All registered versions of a family, the oldest first."""
    table = schema.model_versions
    query = select(table).where(table.c.family == family).order_by(table.c.id)
    with engine.connect() as connection:
        return [_version(row) for row in connection.execute(query).mappings()]


def find_version(engine: Engine, family: str, version: str) -> ModelVersion:
    """The registered version.

    Raises:
        UserError: There is none.
    """
    table = schema.model_versions
    query = select(table).where(table.c.family == family, table.c.version == version)
    with engine.connect() as connection:
        row = connection.execute(query).mappings().first()
    if row is None:
        raise UserError(f"{family} has no version {version!r}", hint="`windtunnel versions` lists what is registered")
    return _version(row)


def sync_aliases(settings: Settings, family: str) -> dict[str, str | None]:
    """Makes MLflow's aliases say what the ledger says, and returns them as version numbers of ours.

    `champion` is the version that answers by default; `candidate` the newest releasable one that is registered after it
    and was not rolled back. The ledger is the truth: MLflow only shows it.
    """
    engine = open_database(settings.database_url)
    ledger, versions = Ledger(engine), list_versions(engine, family)
    route = ledger.route(family)
    champion = next((row for row in versions if route and row.version == route.table.champion.version), None)
    refused = {entry.model_version for entry in ledger.entries(family, frozenset({Event.ROLLED_BACK}), limit=1000)}
    after = champion.id if champion else 0
    open_ = [row for row in versions if row.releasable and row.id > after and row.version not in refused]
    candidates = [row for row in open_ if not row.is_baseline]
    aliases = {CHAMPION: champion, CANDIDATE: candidates[-1] if candidates else None}
    if versions and settings.mlflow_url != NO_MLFLOW:
        numbers = {alias: row.mlflow_version if row else None for alias, row in aliases.items()}
        MlflowRegistry(settings.mlflow_url).set_aliases(family, numbers)
    return {alias: row.version if row else None for alias, row in aliases.items()}


def _insert(
    settings: Settings, engine: Engine, entry: Registration, known: Sequence[ModelVersion], at: datetime
) -> ModelVersion:
    version, facts = entry.choose(known)
    prefix = package_prefix(entry.family, entry.digest)
    tags = {
        **entry.tags,
        "semver": version,
        "digest": entry.digest,
        "dataset_version": entry.dataset_version,
        "code_version": entry.code_version,
        "verdict": entry.verdict,
        "releasable": str(entry.releasable).lower(),
    }
    mlflow_version = "-"
    if settings.mlflow_url != NO_MLFLOW:
        mlflow_version = MlflowRegistry(settings.mlflow_url).ensure_version(
            entry.family,
            entry.fingerprint,
            open_store(settings.store_url).uri(prefix),
            {name: clip(value, _TAG_LENGTH) for name, value in tags.items()},
            entry.description,
        )
    values = {
        "family": entry.family,
        "version": version,
        "fingerprint": entry.fingerprint,
        "digest": entry.digest,
        "verdict": entry.verdict,
        "releasable": int(entry.releasable),
        "mlflow_version": mlflow_version,
        "dataset_version": entry.dataset_version,
        "record": {**entry.record, **facts},
        "registered_at": at,
    }
    with engine.begin() as connection:
        connection.execute(insert(schema.model_versions).values(**values))
    return find_version(engine, entry.family, version)


def _version(row: RowMapping) -> ModelVersion:
    return ModelVersion(**{**row, "releasable": bool(row["releasable"])})
