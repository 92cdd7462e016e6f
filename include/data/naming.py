"""Gives the content of the dataset tables its version.

The same content has the same version, other content gets the next one, and the unique columns of the catalogue decide
between rivals: who loses looks again at what is there and tries the next number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from include.data.assignment import Assigned, assign
from include.data.catalogue import Catalogue, VersionEntry
from include.data.checks import DIGEST
from include.data.datasets import read_manifest
from include.data.division import columns_to_divide, looks_at_all
from include.data.manifest import (
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
from include.data.provenance import software, transformations
from include.data.recalls import refuse_manifest
from include.data.records import CheckedDelivery, Totals
from include.data.rows import content_digest, describe_schema, value_counts
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
    context: StepContext, tables: DeltaTables, catalogue: Catalogue, source: str, deliveries: Sequence[CheckedDelivery]
) -> Published:
    """The version of the source's content with `deliveries`, made if it is new.

    Raises:
        DataError: There is nothing to publish, two deliveries bring the same key, or the content was recalled.
        PublishError: Others published so often meanwhile that no number was left.
    """
    family = context.document.family
    for _ in range(ATTEMPTS):
        entries = catalogue.versions(family)
        merged = _merge(_last_of_source(context, entries, source), deliveries)
        if not merged:
            raise _nothing(context, "there is no delivery to publish, and none of this source was published before")
        manifest = _draft(context, tables, source, merged, entries)
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
    source: str,
    deliveries: list[CheckedDelivery],
    entries: Sequence[VersionEntry],
) -> Manifest:
    """What the manifest of the next version would be."""
    spec, code_version = context.document.spec, context.document.code_version
    parent = read_manifest(context.store, entries[0]) if entries else None
    found = {name: _table(context, tables, source, name, deliveries) for name in spec.data.tables}
    contents = {name: table for name, (table, _) in found.items()}
    assigned = found[spec.split.table][1]
    if not contents[spec.split.table].rows:
        raise _nothing(context, f"there is no clean row in {spec.split.table!r} to publish")
    split = describe_split(spec.split)
    domains = _domains(spec, tables, contents[spec.split.table], deliveries, parent)
    change = next_version(
        parent.version if parent else None,
        parent.shape if parent else None,
        shape_of(source, contents, split, domains),
    )
    return Manifest(
        family=spec.family,
        version=change.version,
        digest=dataset_digest(spec.family, contents),
        source=source,
        split=split,
        division=assigned.manifest if assigned else DivisionManifest(),
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
    rows = tables.read(split_table.location, split_table.delta_version, names, columns)
    known = known_domains(
        {name: value_counts(rows.column(column)) for name, column in slices.items()},
        parent.shape.domains if parent else None,
    )
    return {name: sorted(values) for name, values in known.items()}


def _table(
    context: StepContext, tables: DeltaTables, source: str, name: str, deliveries: Sequence[CheckedDelivery]
) -> tuple[TableManifest, Assigned | None]:
    spec = context.document.spec
    location, key = table_location(spec.family, source, name), spec.data.tables[name].key
    version = tables.version(location)
    if version is None:
        raise PublishError(
            f"the table {name!r} is gone", where=location, hint="publish again, so that it is made again"
        )
    is_split = name == spec.split.table
    wanted = [key, DIGEST, SPLIT] if is_split else [key, DIGEST]
    if is_split and looks_at_all(spec.split):
        wanted = list(dict.fromkeys([*wanted, *columns_to_divide(spec.split)]))
    rows = tables.read(location, version, {delivery.delivery for delivery in deliveries}, wanted)
    _require_unique(rows, key, name)
    marks = rows.column(DIGEST)
    assigned = None
    if is_split:
        assigned = assign(context.store, spec.split, rows, key, location)
        marks = pc.binary_join_element_wise(marks, assigned.marks, " ")
    columns = describe_schema(tables.schema(location, version))
    table = TableManifest(
        location=location,
        delta_version=version,
        key=key,
        rows=rows.num_rows,
        splits=assigned.counts if assigned else {},
        columns=list(columns),
        digest=content_digest(columns, marks.to_pylist()),
        marks_key=assigned.key if assigned else None,
    )
    return table, assigned


def _require_unique(rows: pa.Table, key: str, name: str) -> None:
    """A corrected old delivery can bring a key that a later one had first; only checking both again settles it."""
    counts = pc.value_counts(rows.column(key))
    repeated = counts.filter(pc.greater(pc.struct_field(counts, 1), 1))
    if len(repeated):
        raise DataError(
            f"{len(repeated)} keys of {name!r} are in two deliveries, such as {repeated[0][0].as_py()!r}",
            where=name,
            hint="a corrected delivery repeats a later one: run again with an interval that ends after both",
        )


def _last_of_source(context: StepContext, entries: Sequence[VersionEntry], source: str) -> list[CheckedDelivery]:
    """Deliveries of the newest version that was made from `source`."""
    for entry in entries:
        manifest = read_manifest(context.store, entry)
        if manifest.source == source:
            return manifest.deliveries
    return []


def _merge(old: Sequence[CheckedDelivery], new: Sequence[CheckedDelivery]) -> list[CheckedDelivery]:
    """All of them, oldest first; a delivery of this run takes the place of the same one in the parent."""
    by_name = {delivery.delivery: delivery.model_copy(update={"earlier": None}) for delivery in [*old, *new]}
    return sorted(by_name.values(), key=lambda delivery: (delivery.delivered_on, delivery.delivery))


def _nothing(context: StepContext, message: str) -> DataError:
    hint = "check the interval (since, until) and what the source offers"
    return DataError(message, where=str(context.document.inputs["source"]), hint=hint)
