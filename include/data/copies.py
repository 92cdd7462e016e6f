"""The changed copies of training rows in a version: made when it is named, read with its training rows."""

from __future__ import annotations

import pyarrow as pa

from include.data.assignment import lay_over
from include.data.batches import read_parquet
from include.data.manifest import TableManifest
from include.data.prepare.augment import BY, FROM, augment
from include.spec.models import BaseFamilySpec
from include.steps.fingerprint import fingerprint
from include.store.objects import ObjectStore


def with_copies(store: ObjectStore, spec: BaseFamilySpec, table: TableManifest, rows: pa.Table) -> TableManifest:
    """The table with changed copies of its training rows; see `include.data.prepare.augment`."""
    rows = lay_over(store, rows.select(stored_names(table)), table.key, table.marks_key)
    made = augment(store, spec, rows, table.key, table.location)
    return table.model_copy(
        update={
            "digest": fingerprint(rows=table.digest, copies=made.digest),
            "augmented": made,
        }
    )


def with_provenance(table: TableManifest, rows: pa.Table) -> pa.Table:
    """`rows` with the columns that say of copies what they were made from, which delivered rows leave empty."""
    for column in (FROM, BY) if table.augmented else ():
        rows = rows.append_column(column, pa.nulls(rows.num_rows, pa.string()))
    return rows


def read_copies(store: ObjectStore, table: TableManifest, schema: pa.Schema) -> pa.Table:
    """The copies of a table, with the columns of `schema`."""
    if table.augmented is None or table.augmented.key is None:
        return schema.empty_table()
    return read_parquet(store, table.augmented.key).select(schema.names).cast(schema)


def stored_names(table: TableManifest) -> list[str]:
    """The names of the columns that are stored with delivered rows."""
    return [column.partition(":")[0] for column in table.columns]
