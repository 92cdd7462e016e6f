"""Opens published dataset versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from include.data.assignment import lay_over
from include.data.catalogue import Catalogue, VersionEntry
from include.data.copies import read_copies, stored_names, with_provenance
from include.data.manifest import SPLIT, Manifest
from include.data.sieve import DIGEST
from include.data.splits import TRAIN, marks_in_order, marks_of
from include.errors import UserError
from include.settings import Settings
from include.spec.splits import SplitKind
from include.store.database import open_database
from include.store.datasets import DeltaTables
from include.store.objects import ObjectStore, open_store


class Dataset:
    """One version; satisfies `include.families.contract.DatasetView`. Tables are read once and kept.

    Args:
        fold: The fold that validates, where the version has folds; None: the first of k-fold, the last window of a time
            series.

    Raises:
        UserError: There is no such fold.
    """

    def __init__(self, manifest: Manifest, store: ObjectStore, fold: int | None = None) -> None:
        self.manifest = manifest
        self._store = store
        self._fold = _fold(manifest, fold)
        self._read: dict[str, pa.Table] = {}

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def digest(self) -> str:
        return self.manifest.digest

    def table(self, name: str, split: str | None = None) -> pa.Table:
        """Rows of a table in the order of their key, so that every reader sees the same order.

        Args:
            split: `train`, `validation` or `test`, as the fold divides them, or a mark (`fold_3`); None: all rows.
                `train` brings the changed copies of its rows, where the version has any; nothing else does.

        Raises:
            UserError: There is no such table or split, or the table is not split.
        """
        table = self.manifest.tables.get(name)
        if table is None:
            raise UserError(f"the dataset has no table {name!r}", hint=f"it has {', '.join(self.manifest.tables)}")
        if name not in self._read:
            self._read[name] = self._load(name)
        rows = self._read[name]
        if split is None:
            return rows
        if not table.splits:
            raise UserError(f"the table {name!r} is not split", hint="leave out `split`")
        division = self.manifest.division
        try:
            marks = marks_of(division.kind, division.folds, self._fold, split)
        except KeyError:
            known = ", ".join(["train", "validation", *marks_in_order(division.kind, division.folds)])
            raise UserError(f"the dataset has no split {split!r}", hint=f"it has {known}") from None
        if split == TRAIN:
            rows = pa.concat_tables([rows, self._copies(name, rows.schema)])
            rows = rows.sort_by(table.key) if table.augmented else rows
        return rows.filter(pc.is_in(rows.column(SPLIT), pa.array(sorted(marks))))

    def columns(self, name: str, columns: Sequence[str]) -> pa.Table:
        """These columns of a table as they are stored, in no particular order; nothing else is read or kept."""
        table = self.manifest.tables[name]
        deliveries = {delivery.delivery for delivery in self.manifest.deliveries}
        return DeltaTables(self._store).read(table.location, table.delta_version, deliveries, columns)

    def stream(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Like `columns`, batch by batch, in bounded memory."""
        table = self.manifest.tables[name]
        deliveries = {delivery.delivery for delivery in self.manifest.deliveries}
        return DeltaTables(self._store).stream(table.location, table.delta_version, deliveries, columns)

    def sample(self, name: str, columns: Sequence[str], most: int) -> pa.Table:
        """These columns of about `most` rows, or of all where there are no more.

        Rows are chosen by their digests, so that a row in the sample of one version is in that of another.
        """
        rows = self.manifest.tables[name].rows
        if rows <= most:
            return self.columns(name, columns)
        below = f"{int(most / rows * (1 << 32)):08x}"
        batches = self.stream(name, [*dict.fromkeys([*columns, DIGEST])])
        kept = [batch.filter(pc.less(batch.column(DIGEST), below)) for batch in batches]
        return pa.Table.from_batches(kept).select(list(columns))

    def _copies(self, name: str, schema: pa.Schema) -> pa.Table:
        place = f"{name}: copies"
        if place not in self._read:
            self._read[place] = read_copies(self._store, self.manifest.tables[name], schema)
        return self._read[place]

    def _load(self, name: str) -> pa.Table:
        table = self.manifest.tables[name]
        deliveries = {delivery.delivery for delivery in self.manifest.deliveries}
        rows = DeltaTables(self._store).read(table.location, table.delta_version, deliveries)
        rows = lay_over(self._store, rows.select(stored_names(table)), table.key, table.marks_key)
        return with_provenance(table, rows).sort_by(table.key)


def open_dataset(settings: Settings, family: str, version: str, fold: int | None = None) -> Dataset:
    """A published version; `fold` says which fold validates.

    Raises:
        UserError: It does not exist, or has no such fold.
    """
    store = open_store(settings.store_url)
    for entry in list_versions(settings, family):
        if entry.version == version:
            return Dataset(read_manifest(store, entry), store, fold)
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


def _fold(manifest: Manifest, fold: int | None) -> int:
    division = manifest.division
    if fold is None:
        return division.folds - 1 if division.kind is SplitKind.TIME_SERIES else 0
    if fold >= division.folds or (fold and division.kind not in {SplitKind.K_FOLD, SplitKind.TIME_SERIES}):
        raise UserError(
            f"dataset {manifest.version} has no fold {fold}: {manifest.split}",
            where="fold",
            hint=f"use 0 to {division.folds - 1}, or publish with split.folds",
        )
    return fold
