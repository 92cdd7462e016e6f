"""Gives the content of the dataset tables its version.

The same content has the same version, other content gets the next one, and the unique columns of the catalogue decide
between rivals: who loses looks again at what is there and tries the next number.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.data.assignment import Assigned, assign
from include.data.catalogue import Catalogue, VersionEntry
from include.data.copies import with_copies
from include.data.datasets import read_manifest
from include.data.division import columns_to_divide, looks_at_all
from include.data.manifest import (
    PLATFORM,
    SPLIT,
    ChangeManifest,
    DivisionManifest,
    Manifest,
    TableManifest,
    dataset_digest,
    manifest_key,
    shape_of,
    table_location,
)
from include.data.marks import SortedMarks
from include.data.prepare.augment import augmentations
from include.data.prepare.rows import prepared_schema
from include.data.provenance import software, transformations
from include.data.recalls import refuse_manifest
from include.data.records import CheckedDelivery, Totals
from include.data.rows import content_digest, describe_schema, key_marks, marks_of_digests, value_counts
from include.data.sieve import DIGEST
from include.data.sources import Selection
from include.data.splits import describe_split
from include.data.versioning import known_domains, next_version
from include.errors import DataError, WindtunnelError
from include.families.contract import load_data_code
from include.spec.models import BaseFamilySpec
from include.steps.entry import StepContext
from include.store.datasets import DeltaTables

ATTEMPTS = 50


class PublishError(WindtunnelError):
    """A version could not be named."""


@dataclass(frozen=True)
class Published:
    """A version, and whether this call made it."""

    manifest: Manifest
    manifest_key: str
    new: bool


def name_version(
    context: StepContext,
    tables: DeltaTables,
    catalogue: Catalogue,
    selection: Selection,
    deliveries: Sequence[CheckedDelivery],
) -> Published:
    """The version of the content of the selected sources with `deliveries`, made if it is new.

    Raises:
        DataError: There is nothing to publish, two deliveries bring the same key, or the content was recalled.
        PublishError: Others published so often meanwhile that no number was left.
    """
    family = context.document.family
    for _ in range(ATTEMPTS):
        entries = catalogue.versions(family)
        merged = _merge(_last_of_origin(context, entries, selection), deliveries)
        if not merged:
            raise _nothing(context, "there is no delivery to publish, and none of these sources was published before")
        manifest = _draft(context, tables, selection, merged, entries)
        refuse_manifest(context.settings, context.store, manifest)
        for entry in entries:
            if entry.fingerprint == manifest.digest:
                known = read_manifest(context.store, entry)
                refuse_manifest(context.settings, context.store, known)
                return Published(known, entry.manifest_key, new=False)
        key = manifest_key(family, manifest.version, manifest.digest)
        context.store.put(key, json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True).encode())
        if catalogue.add_version(VersionEntry(family, manifest.version, manifest.digest, key, datetime.now(UTC))):
            print(f"published {family} {manifest.version}: {manifest.change.reason}", flush=True)
            return Published(manifest, key, new=True)
    raise PublishError(f"others published {ATTEMPTS} versions of {family} meanwhile", hint="try again")


def _draft(
    context: StepContext,
    tables: DeltaTables,
    selection: Selection,
    deliveries: list[CheckedDelivery],
    entries: Sequence[VersionEntry],
) -> Manifest:
    """What the manifest of the next version would be."""
    spec, code_version = context.document.spec, context.document.code_version
    parent = read_manifest(context.store, entries[0]) if entries else None
    found = {name: _table(context, tables, selection.origin, name, deliveries) for name in spec.data.tables}
    contents = {name: table for name, (table, _) in found.items()}
    assigned = found[spec.split.table][1]
    if not contents[spec.split.table].rows:
        raise _nothing(context, f"there is no clean row in {spec.split.table!r} to publish")
    split = describe_split(spec.split)
    roles = _roles(selection, deliveries)
    domains = _domains(spec, tables, contents[spec.split.table], deliveries, parent) | _known_roles(roles, parent)
    change = next_version(
        parent.version if parent else None,
        parent.shape if parent else None,
        shape_of(selection.origin, contents, split, domains),
    )
    return Manifest(
        family=spec.family,
        version=change.version,
        digest=dataset_digest(spec.family, contents),
        source=selection.origin,
        sources={name: role for name, (role, _) in roles.items()},
        split=split,
        division=assigned.manifest if assigned else DivisionManifest(kind=spec.split.kind, folds=spec.split.folds),
        suite=spec.data.suite,
        code_version=code_version,
        parent=parent.version if parent else None,
        change=ChangeManifest(level=change.level, reason=change.reason),
        tables=contents,
        deliveries=deliveries,
        totals=Totals.of(deliveries),
        domains=domains,
        transformations=transformations(spec),
        software=software(),
    )


def _domains(
    spec: BaseFamilySpec,
    tables: DeltaTables,
    split_table: TableManifest,
    deliveries: Sequence[CheckedDelivery],
    parent: Manifest | None,
) -> dict[str, list[str]]:
    """Slice -> domains that are known with this content."""
    slices = load_data_code(spec.code).slices()
    names = {delivery.delivery for delivery in deliveries}
    columns = [*dict.fromkeys(slices.values())]
    counts: dict[str, Counter[str]] = {name: Counter() for name in slices}
    for rows in tables.stream(split_table.location, split_table.delta_version, names, columns):
        for name, column in slices.items():
            counts[name].update(value_counts(rows.column(column)))
    known = known_domains(counts, parent.shape.domains if parent else None)
    return {name: sorted(values) for name, values in known.items()}


def _table(
    context: StepContext, tables: DeltaTables, origin: str, name: str, deliveries: Sequence[CheckedDelivery]
) -> tuple[TableManifest, Assigned | None]:
    spec = context.document.spec
    location, key = table_location(spec.family, origin, name), spec.data.tables[name].key
    version = tables.version(location)
    if version is None:
        raise PublishError(
            f"the table {name!r} is gone", where=location, hint="publish again, so that it is made again"
        )
    is_split = name == spec.split.table
    wanted = [DIGEST, SPLIT] if is_split else [DIGEST]
    names = {delivery.delivery for delivery in deliveries}
    _require_unique(lambda: tables.stream(location, version, names, [key]), key, name)
    batches: Iterable[pa.RecordBatch] = tables.stream(location, version, names, wanted)
    assigned = None
    if is_split and looks_at_all(spec.split):
        columns = list(dict.fromkeys([key, *wanted, *columns_to_divide(spec.split)]))
        rows = tables.read(location, version, names, columns)
        assigned = assign(context.store, spec.split, rows, key, location)
        batches = pa.table({DIGEST: rows.column(DIGEST), SPLIT: assigned.marks}).to_batches()
    described = describe_schema(_columns_now(spec, name, tables.schema(location, version)))
    counts, digest = _count(described, batches, is_split)
    table = TableManifest(
        location=location,
        delta_version=version,
        key=key,
        rows=counts.total(),
        splits=dict(sorted(counts.items())) if is_split else {},
        columns=list(described),
        digest=digest,
        marks_key=assigned.key if assigned else None,
    )
    if is_split and augmentations(spec):
        table = with_copies(context.store, spec, table, tables.read(location, version, names))
    return table, assigned


def _columns_now(spec: BaseFamilySpec, name: str, stored: pa.Schema) -> pa.Schema:
    """The columns that the family and its steps make now: a table keeps those that they made before."""
    own = prepared_schema(spec, name, load_data_code(spec.code).schemas()[name]).names
    return pa.schema([field for field in stored if field.name in {*own, *PLATFORM}])


def _count(columns: Sequence[str], batches: Iterable[pa.RecordBatch], is_split: bool) -> tuple[Counter[str], str]:
    """Rows by split ("" for a table that is not split), and the digest of all."""
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        marks: dict[str, SortedMarks] = {}
        for rows in batches:
            for part, digests in _parts(rows, is_split):
                if part not in marks:
                    marks[part] = stack.enter_context(SortedMarks())
                marks[part].add(marks_of_digests(digests))
                counts[part] += len(digests)
        return counts, content_digest(columns, marks)


def _parts(rows: pa.RecordBatch, is_split: bool) -> Iterator[tuple[str, pa.Array]]:
    """Digests of the rows by split; all of them under "" in a table that is not split."""
    if not is_split:
        yield "", rows.column(DIGEST)
        return
    column = rows.column(SPLIT)
    for split in pc.unique(column).to_pylist():
        yield split, rows.column(DIGEST).filter(pc.equal(column, split))


def _require_unique(stream: Callable[[], Iterable[pa.RecordBatch]], key: str, name: str) -> None:
    """A corrected old delivery can bring a key that a later one had first; only checking both again settles it."""
    with SortedMarks() as keys:
        for rows in stream():
            keys.add(key_marks(rows.column(key)))
        repeated = np.concatenate([np.unique(part[1:][part[1:] == part[:-1]]) for part in keys.parts()])
    if len(repeated):
        raise DataError(
            f"{len(repeated)} keys of {name!r} are in two deliveries, such as {_key_of(stream(), key, repeated[0])!r}",
            where=name,
            hint="a corrected delivery repeats a later one: run again with an interval that ends after both",
        )


def _key_of(stream: Iterable[pa.RecordBatch], key: str, mark: np.bytes_) -> Any:
    """The key that has this mark."""
    for rows in stream:
        for number in np.flatnonzero(key_marks(rows.column(key)) == mark):
            return rows.column(key)[int(number)].as_py()
    raise LookupError("no row has this key")


def _last_of_origin(
    context: StepContext, entries: Sequence[VersionEntry], selection: Selection
) -> list[CheckedDelivery]:
    """Deliveries of the newest version of the same origin, without those of sources that are declared no more."""
    here = {ref.id for ref in selection.sources}
    for entry in entries:
        manifest = read_manifest(context.store, entry)
        if manifest.source == selection.origin:
            gone = manifest.sources.keys() - here
            return [delivery for delivery in manifest.deliveries if delivery.source not in gone]
    return []


def _roles(selection: Selection, deliveries: Sequence[CheckedDelivery]) -> dict[str, tuple[str, str]]:
    """Source -> its role and its domain (empty for none), of the declared sources that brought something."""
    used = {delivery.source for delivery in deliveries}
    return {
        ref.id: (ref.spec.role.value, ref.spec.domain or "")
        for ref in selection.sources
        if ref.declared and ref.id in used
    }


def _known_roles(roles: Mapping[str, tuple[str, str]], parent: Manifest | None) -> dict[str, list[str]]:
    """Roles and domains of sources as slices of their own: a new one is as large a change as a new domain of rows."""
    before = parent.domains if parent else {}
    found = {"source role": {role for role, _ in roles.values()}, "source domain": {name for _, name in roles.values()}}
    return {name: sorted((values - {""}).union(before.get(name, ()))) for name, values in found.items() if roles}


def _merge(old: Sequence[CheckedDelivery], new: Sequence[CheckedDelivery]) -> list[CheckedDelivery]:
    """All of them, oldest first; a delivery of this run takes the place of the same one in the parent."""
    by_name = {delivery.delivery: delivery.model_copy(update={"earlier": None}) for delivery in [*old, *new]}
    return sorted(by_name.values(), key=lambda delivery: (delivery.delivered_on, delivery.delivery))


def _nothing(context: StepContext, message: str) -> DataError:
    hint = "check the interval (since, until) and what the source offers"
    return DataError(message, where=str(context.document.inputs.get("source") or "data.sources"), hint=hint)
