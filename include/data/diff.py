"""What differs between two dataset versions: schema, rows by their key, distributions, slices."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from include.data.datasets import Dataset, open_dataset
from include.data.distances import ColumnDistance, compare_columns
from include.data.manifest import SPLIT, Manifest
from include.data.records import Record
from include.data.rows import value_counts
from include.data.sieve import DIGEST
from include.settings import Settings

#: Rows of a column that are compared: a large version takes no more time than a small one.
MAX_ROWS = 100_000
SAMPLES = 10
_NOT_COMPARED = frozenset({"source", "delivery", "delivered_on", DIGEST, SPLIT})


class SchemaDiff(Record):
    """Columns with their types that only one version has, by table; a changed type is one of each."""

    added: dict[str, list[str]]
    removed: dict[str, list[str]]


class RowsDiff(Record):
    """Rows of a table by key.

    Attributes:
        changed: Keys that both have, with other values.
        samples: `added`, `removed`, `changed` -> the first few keys.
    """

    before: int
    after: int
    added: int
    removed: int
    changed: int
    samples: dict[str, list[str]]


class SliceDiff(Record):
    """Rows of one slice value, before and after."""

    slice: str
    value: str
    before: int
    after: int


class Diff(Record):
    """Two versions beside each other; `columns` is table -> column -> distance."""

    family: str
    before: str
    after: str
    same: bool
    schema_: SchemaDiff
    rows: dict[str, RowsDiff]
    columns: dict[str, dict[str, ColumnDistance]]
    slices: list[SliceDiff]
    split: tuple[str, str]


def diff_versions(settings: Settings, family: str, before: str, after: str, slices: Mapping[str, str]) -> Diff:
    """Compares two published versions.

    Args:
        slices: Slice -> column of the split table, as the family's code names them.

    Raises:
        UserError: One of them does not exist.
    """
    old, new = open_dataset(settings, family, before), open_dataset(settings, family, after)
    tables = [name for name in old.manifest.tables if name in new.manifest.tables]
    return Diff(
        family=family,
        before=before,
        after=after,
        same=old.digest == new.digest,
        schema_=_schema(old.manifest, new.manifest),
        rows={name: _rows(old, new, name) for name in tables},
        columns={name: _columns(old, new, name) for name in tables},
        slices=_slices(old, new, slices),
        split=(old.manifest.split, new.manifest.split),
    )


def _schema(old: Manifest, new: Manifest) -> SchemaDiff:
    def only(one: Manifest, other: Manifest) -> dict[str, list[str]]:
        found = {}
        for name, table in one.tables.items():
            known = other.tables[name].columns if name in other.tables else []
            if missing := [column for column in table.columns if column not in known]:
                found[name] = missing
        return found

    return SchemaDiff(added=only(new, old), removed=only(old, new))


def _rows(old: Dataset, new: Dataset, name: str) -> RowsDiff:
    left, right = (_digests(side, name) for side in (old, new))
    joined = left.join(right, "key", join_type="full outer", left_suffix="_old", right_suffix="_new")
    is_new, is_gone = pc.is_null(joined["digest_old"]), pc.is_null(joined["digest_new"])
    is_other = pc.fill_null(pc.not_equal(joined["digest_old"], joined["digest_new"]), False)
    keys = {
        kind: joined.filter(mask)["key"]
        for kind, mask in (("added", is_new), ("removed", is_gone), ("changed", is_other))
    }
    return RowsDiff(
        before=left.num_rows,
        after=right.num_rows,
        **{kind: len(found) for kind, found in keys.items()},
        samples={kind: sorted(found.slice(0, 10_000).to_pylist())[:SAMPLES] for kind, found in keys.items()},
    )


def _digests(side: Dataset, name: str) -> pa.Table:
    """Key (as text) and digest of every row."""
    table = side.manifest.tables[name]
    rows = side.columns(name, [table.key, DIGEST])
    return pa.table({"key": pc.cast(rows[table.key], pa.string()), "digest": rows[DIGEST].combine_chunks()})


def _columns(old: Dataset, new: Dataset, name: str) -> dict[str, ColumnDistance]:
    left, right = ({column.split(": ", 1)[0] for column in side.manifest.tables[name].columns} for side in (old, new))
    key = new.manifest.tables[name].key
    found = {}
    for column in sorted((left & right) - _NOT_COMPARED - {key}):
        values = [side.sample(name, [column], MAX_ROWS)[column] for side in (old, new)]
        found[column] = compare_columns(*values)
    return found


def _slices(old: Dataset, new: Dataset, slices: Mapping[str, str]) -> list[SliceDiff]:
    found = []
    for name, column in slices.items():
        sides = [value_counts(side.columns(split_table(side.manifest), [column])[column]) for side in (old, new)]
        for value in sorted(sides[0].keys() | sides[1].keys()):
            before, after = (side.get(value, 0) for side in sides)
            found.append(SliceDiff(slice=name, value=value, before=before, after=after))
    return found


def split_table(manifest: Manifest) -> str:
    """The table whose rows are examples."""
    return next(name for name, table in manifest.tables.items() if table.splits)
