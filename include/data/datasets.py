"""Opens published dataset versions."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from include.data.catalogue import Catalogue, VersionEntry
from include.data.manifest import Manifest
from include.errors import UserError
from include.settings import Settings
from include.store.database import open_database
from include.store.datasets import DeltaTables
from include.store.objects import ObjectStore, open_store


class Dataset:
    """One version; satisfies `include.families.contract.DatasetView`. Tables are read once and kept."""

    def __init__(self, manifest: Manifest, tables: DeltaTables) -> None:
        self.manifest = manifest
        self._tables = tables
        self._read: dict[str, pa.Table] = {}

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def digest(self) -> str:
        return self.manifest.digest

    def table(self, name: str, split: str | None = None) -> pa.Table:
        """Rows of a table in the order of their key, so that every reader sees the same order.

        Raises:
            UserError: There is no such table, or it is not split.
        """
        if name not in self.manifest.tables:
            raise UserError(f"the dataset has no table {name!r}", hint=f"it has {', '.join(self.manifest.tables)}")
        if name not in self._read:
            self._read[name] = self._load(name)
        rows = self._read[name]
        if split is None:
            return rows
        if not self.manifest.tables[name].splits:
            raise UserError(f"the table {name!r} is not split", hint="leave out `split`")
        return rows.filter(pc.equal(rows.column("split"), split))

    def _load(self, name: str) -> pa.Table:
        table = self.manifest.tables[name]
        deliveries = {delivery.delivery for delivery in self.manifest.deliveries}
        return self._tables.read(table.location, table.delta_version, deliveries).sort_by(table.key)


def open_dataset(settings: Settings, family: str, version: str) -> Dataset:
    """A published version.

    Raises:
        UserError: It does not exist.
    """
    store = open_store(settings.store_url)
    for entry in list_versions(settings, family):
        if entry.version == version:
            return Dataset(read_manifest(store, entry), DeltaTables(store))
    raise UserError(
        f"{family} has no dataset version {version!r}", hint="see `windtunnel versions` for those that it has"
    )


def latest_version(settings: Settings, family: str) -> str | None:
    """The newest version's name; None before the first."""
    entries = list_versions(settings, family)
    return entries[0].version if entries else None


def list_versions(settings: Settings, family: str) -> list[VersionEntry]:
    """All published versions, the newest first."""
    return Catalogue(open_database(settings.database_url)).versions(family)


def read_manifest(store: ObjectStore, entry: VersionEntry) -> Manifest:
    """The manifest of a version. Raises `ObjectNotFound` where the store lost it."""
    return Manifest.model_validate_json(store.get(entry.manifest_key))
