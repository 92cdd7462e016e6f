"""Recalled data: what must not be trained on or released any more, kept in the ledger.

A recall names a dataset version. What is recalled is that version and the deliveries that it brought, or one delivery,
or single rows; every other version that holds them is recalled with it. A corrected delivery, or a corrected row, is
not what was recalled. A recall ends when a person lifts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from include.data.datasets import list_versions, read_manifest
from include.data.manifest import Manifest, TableManifest
from include.data.records import CheckedDelivery, Record
from include.data.sieve import DIGEST
from include.errors import DataError, UserError
from include.release.ledger import Entry, Event, Ledger
from include.settings import Settings
from include.steps.fingerprint import fingerprint
from include.store.database import open_database
from include.store.datasets import DELIVERY, DeltaTables
from include.store.objects import ObjectStore, open_store

_ALL = 1_000_000


class RecalledDelivery(Record):
    """One content of a delivery."""

    source: str
    delivery: str
    digest: str


class RecalledRow(Record):
    """One content of a row: its table, its key, its digest, and the delivery that brought it."""

    table: str
    key: str
    digest: str
    delivery: str


class Recall(Record):
    """What was recalled.

    Attributes:
        version: The dataset version that was named.
        whole: Whether the version itself is recalled, whatever it holds.
        deliveries, rows: What is recalled wherever it is.
    """

    version: str
    whole: bool
    deliveries: list[RecalledDelivery]
    rows: list[RecalledRow]
    reason: str

    @property
    def id(self) -> str:
        """Equal for recalls of the same thing."""
        return fingerprint(
            version=self.version,
            deliveries=[delivery.model_dump() for delivery in self.deliveries],
            rows=[row.model_dump() for row in self.rows],
        )[:16]

    @property
    def delivery_names(self) -> set[str]:
        """Deliveries that are recalled, or hold recalled rows."""
        return {delivery.delivery for delivery in self.deliveries} | {row.delivery for row in self.rows}

    def words(self) -> str:
        """What is recalled, on one line."""
        parts = [f"dataset {self.version}"] if self.whole else []
        parts += [f"delivery {delivery.delivery} ({delivery.digest[:12]})" for delivery in self.deliveries]
        parts += [f"row {row.key} of {row.table}" for row in self.rows]
        return ", ".join(parts)


def make_recall(
    store: ObjectStore,
    manifest: Manifest,
    parent: Manifest | None,
    *,
    delivery: str | None,
    row: str | None,
    reason: str,
) -> Recall:
    """The recall of a version, of one `delivery` in it, or of the rows with the key `row`.

    Raises:
        UserError: The version holds no such delivery or row.
    """
    if row is not None:
        rows = _rows(store, manifest, row, delivery)
        if not rows:
            held = ", ".join(f"{name} by {table.key}" for name, table in manifest.tables.items())
            raise UserError(f"dataset {manifest.version} has no row with the key {row!r}", hint=f"keys: {held}")
        return Recall(version=manifest.version, whole=False, deliveries=[], rows=rows, reason=reason)
    if delivery is not None:
        named = [held for held in manifest.deliveries if delivery in held.names]
        if not named:
            known = ", ".join(held.delivery for held in manifest.deliveries[-20:])
            raise UserError(f"dataset {manifest.version} has no delivery {delivery!r}", hint=f"it has: {known}")
        deliveries = [_identity(held) for held in named]
        return Recall(version=manifest.version, whole=False, deliveries=deliveries, rows=[], reason=reason)
    before = [_identity(held) for held in parent.deliveries] if parent else []
    brought = [_identity(held) for held in manifest.deliveries]
    brought = [identity for identity in brought if identity not in before]
    return Recall(version=manifest.version, whole=True, deliveries=brought, rows=[], reason=reason)


def active_recalls(ledger: Ledger, family: str) -> list[tuple[Entry, Recall]]:
    """Recalls that nobody lifted, the oldest first, with their ledger entries."""
    kinds = frozenset({Event.DATASET_RECALLED, Event.RECALL_LIFTED})
    entries = ledger.entries(family, kinds, limit=_ALL)
    lifted = {entry.record["recall"] for entry in entries if entry.event is Event.RECALL_LIFTED}
    return [
        (entry, Recall.model_validate(entry.record["recall"]))
        for entry in reversed(entries)
        if entry.event is Event.DATASET_RECALLED and entry.id not in lifted
    ]


def record_recall(ledger: Ledger, family: str, recall: Recall, *, actor: str, at: datetime) -> bool:
    """Adds the recall to the ledger. False where the same thing is recalled already."""
    if any(known.id == recall.id for _, known in active_recalls(ledger, family)):
        return False
    lifts = ledger.entries(family, frozenset({Event.RECALL_LIFTED}), limit=_ALL)
    key = f"recalled:{recall.id}:{len(lifts)}"  # a recall that was lifted can be made again
    record = {"dataset_version": recall.version, "recall": recall.model_dump(mode="json"), "reason": recall.reason}
    return ledger.append(family, Event.DATASET_RECALLED, key=key, actor=actor, at=at, record=record)


def lift_recalls(
    ledger: Ledger,
    family: str,
    version: str,
    *,
    delivery: str | None,
    row: str | None,
    reason: str,
    actor: str,
    at: datetime,
) -> list[Recall]:
    """Ends the recalls that name `version` (and `delivery` or `row`); returns them.

    Raises:
        UserError: There is no such recall.
    """
    active = active_recalls(ledger, family)
    found = [
        (entry, recall)
        for entry, recall in active
        if recall.version == version
        and (delivery is None or delivery in recall.delivery_names)
        and (row is None or any(held.key == row for held in recall.rows))
    ]
    if not found:
        known = "; ".join(f"{recall.version}: {recall.words()}" for _, recall in active) or "nothing is recalled"
        raise UserError(f"dataset {version} of {family} is not recalled in that way", hint=known)
    for entry, recall in found:
        record = {"dataset_version": version, "recall": entry.id, "what": recall.words(), "reason": reason}
        key = f"recall_lifted:{entry.id}"
        ledger.append(family, Event.RECALL_LIFTED, key=key, actor=actor, at=at, record=record)
    return [recall for _, recall in found]


def touches(store: ObjectStore, recall: Recall, manifest: Manifest) -> bool:
    """Whether the version of `manifest` holds what was recalled."""
    if recall.whole and recall.version == manifest.version:
        return True
    held = [_identity(delivery) for delivery in manifest.deliveries]
    return any(delivery in held for delivery in recall.deliveries) or _holds_row(store, recall.rows, manifest)


def refuse_manifest(settings: Settings, store: ObjectStore, manifest: Manifest) -> None:
    """Raises `DataError` where the content of `manifest` is recalled, in whole or in part."""
    for entry, recall in active_recalls(Ledger(open_database(settings.database_url)), manifest.family):
        if touches(store, recall, manifest):
            raise _refusal(manifest.family, manifest.version, entry, recall)


def refuse_recalled(settings: Settings, family: str, *versions: str) -> None:
    """Raises `DataError` where one of the dataset versions is recalled, in whole or in part."""
    active = active_recalls(Ledger(open_database(settings.database_url)), family)
    if not active:
        return
    store = open_store(settings.store_url)
    published = {entry.version: entry for entry in list_versions(settings, family)}
    for version in versions:
        manifest = read_manifest(store, published[version]) if version in published else None
        for entry, recall in active:
            if recall.version == version if manifest is None else touches(store, recall, manifest):
                raise _refusal(family, version, entry, recall)


def recalled_datasets(settings: Settings, family: str) -> set[str]:
    """Published versions that are recalled, in whole or in part."""
    active = [recall for _, recall in active_recalls(Ledger(open_database(settings.database_url)), family)]
    store = open_store(settings.store_url)
    found = {recall.version for recall in active if recall.whole}
    for entry in list_versions(settings, family) if active else []:
        manifest = read_manifest(store, entry)
        if any(touches(store, recall, manifest) for recall in active):
            found.add(entry.version)
    return found


def _refusal(family: str, version: str, entry: Entry, recall: Recall) -> DataError:
    return DataError(
        f"dataset {version} of {family} holds recalled data: {recall.words()} ({recall.reason})",
        where=f"recalled by {entry.actor} at {entry.at:%Y-%m-%d %H:%M} UTC",
        hint="correct the delivery at the source: its new content takes the place of the old; or "
        f"`windtunnel recall {family}:data@{recall.version} --lift --reason ...`",
        dataset_version=version,
        recalled=recall.version,
    )


def _identity(delivery: CheckedDelivery) -> RecalledDelivery:
    return RecalledDelivery(source=delivery.source, delivery=delivery.delivery, digest=delivery.digest)


def _rows(store: ObjectStore, manifest: Manifest, key: str, delivery: str | None) -> list[RecalledRow]:
    """The rows of `manifest` with this key, of all tables."""
    names = {held.delivery for held in manifest.deliveries if delivery is None or delivery in held.names}
    found = []
    for name, table in manifest.tables.items():
        for row in _matching(store, table, names, [key]).to_pylist():
            digest, brought_by = row[DIGEST], row[DELIVERY]
            found.append(RecalledRow(table=name, key=str(row[table.key]), digest=digest, delivery=brought_by))
    return found


def _holds_row(store: ObjectStore, rows: Sequence[RecalledRow], manifest: Manifest) -> bool:
    for name in {row.table for row in rows} & manifest.tables.keys():
        table = manifest.tables[name]
        wanted = {(row.key, row.digest) for row in rows if row.table == name}
        held = {delivery.delivery for delivery in manifest.deliveries}
        matching = _matching(store, table, held, [key for key, _ in wanted])
        keys = (str(key) for key in matching.column(table.key).to_pylist())
        if wanted & set(zip(keys, matching.column(DIGEST).to_pylist(), strict=True)):
            return True
    return False


def _matching(store: ObjectStore, table: TableManifest, deliveries: Iterable[str], keys: Sequence[str]) -> pa.Table:
    """Key, digest and delivery of the rows with one of `keys`; the table is read piece by piece."""
    columns, wanted = [table.key, DIGEST, DELIVERY], pa.array(keys, pa.string())
    pieces = DeltaTables(store).stream(table.location, table.delta_version, set(deliveries), columns)
    found = [piece.filter(pc.is_in(pc.cast(piece.column(table.key), pa.string()), wanted)) for piece in pieces]
    return pa.Table.from_batches(found) if found else pa.table({name: pa.array([], pa.string()) for name in columns})
