"""The marks of a version's rows where they are not the ones stored with the rows: found, stored and laid over."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from include.data.batches import read_parquet, write_parquet
from include.data.division import divide
from include.data.manifest import SPLIT, DivisionManifest
from include.spec.splits import SplitSpec
from include.steps.fingerprint import fingerprint
from include.store.objects import ObjectStore


@dataclass(frozen=True)
class Assigned:
    """How the rows of a version are divided, where they had to be looked at together.

    Attributes:
        marks: The mark of every row.
        key: Object key of the marks that are not the stored ones; None where all are.
        manifest: What the manifest says of it.
    """

    marks: pa.ChunkedArray
    key: str | None
    manifest: DivisionManifest


def assign(store: ObjectStore, split: SplitSpec, rows: pa.Table, key: str, location: str) -> Assigned:
    """Divides `rows` and stores the marks that are not the stored ones under a name made of their content.

    Raises:
        DataError: The same example is on two sides; see `include.data.division`.
    """
    division = divide(split, rows, key)
    marks = pa.chunked_array([pa.array(division.marks, pa.string())])
    moved = (
        pa.table({"key": rows.column(key), SPLIT: marks}).filter(pa.array(division.moved, pa.bool_())).sort_by("key")
    )
    place = None
    if moved.num_rows:
        place = f"{location}-marks/{fingerprint(marks=moved.to_pydict())[:20]}.parquet"
        if not store.exists(place):
            write_parquet(store, place, moved)
    manifest = DivisionManifest(kind=split.kind, folds=split.folds, cuts=division.cuts, leakage=division.report)
    return Assigned(marks, place, manifest)


def lay_over(store: ObjectStore, rows: pa.Table, key: str, marks_key: str | None) -> pa.Table:
    """`rows` with the marks that count in their column `split`."""
    if marks_key is None:
        return rows
    moved = read_parquet(store, marks_key)
    found = pc.index_in(rows.column(key), moved.column("key").combine_chunks())
    marks = pc.coalesce(moved.column(SPLIT).take(found), rows.column(SPLIT))
    return rows.set_column(rows.column_names.index(SPLIT), SPLIT, marks)
