"""The `publish` step: clean rows become a dataset version.

Two moves. First every delivery is put into the Delta tables, exactly once (see `include.store.datasets`). Then the
content of all deliveries together is named: the same content is the same version, other content is the next one, and
the unique columns of the catalogue decide between rivals. What was killed in between is simply done again.

A version holds the deliveries of its parent from the same source, those of this run, and those before this run's
interval, so that nothing is missing when a delivery came late or intervals are run out of order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.data.batches import read_parquet
from include.data.catalogue import Catalogue, VersionEntry
from include.data.checks import DIGEST
from include.data.datasets import read_manifest
from include.data.manifest import ChangeManifest, Manifest, TableManifest, dataset_digest, manifest_key
from include.data.records import CheckedDelivery, Totals
from include.data.rows import content_digest, describe_schema
from include.data.sources import source_id
from include.data.splits import split_column
from include.data.versioning import Shape, next_version
from include.errors import DataError, WindtunnelError
from include.release.ledger import Event, Ledger
from include.spec.models import FamilySpec, SplitSpec
from include.steps.entry import StepContext, read_json
from include.steps.fingerprint import fingerprint
from include.store.database import open_database
from include.store.datasets import DeltaTables

SPLIT = "split"
ATTEMPTS = 50


class PublishError(WindtunnelError):
    """A version could not be named."""


@dataclass(frozen=True)
class _Published:
    """A version and whether this call made it."""

    manifest: Manifest
    manifest_key: str
    new: bool


def publish(context: StepContext) -> dict[str, Any]:
    """See the module. Inputs: `checked` of `validate`, `source`; for the outputs see the end of this function.

    Raises:
        DataError: There is no clean row to publish.
    """
    inputs, document = context.document.inputs, context.document
    source = source_id(inputs["source"])
    now = [CheckedDelivery.model_validate(record) for record in inputs["checked"]]
    before_key = now[0].earlier if now else None
    before = (
        [CheckedDelivery.model_validate(record) for record in read_json(context.store, before_key)]
        if before_key
        else []
    )
    tables = DeltaTables(context.store)
    engine = open_database(context.settings.database_url)
    _put_deliveries(context, tables, source, [*before, *now])
    published = _name_version(context, tables, Catalogue(engine), source, [*before, *now])
    manifest = published.manifest
    Ledger(engine).append(
        document.family,
        Event.DATASET_PUBLISHED,
        key=f"dataset:{manifest.version}",
        actor=document.run,
        at=datetime.now(UTC),
        record={
            "dataset_version": manifest.version,
            "digest": manifest.digest,
            "source": source,
            "rows": {name: table.rows for name, table in manifest.tables.items()},
            "change": manifest.change.reason,
        },
    )
    totals = Totals.of(now)
    return {
        "dataset_version": manifest.version,
        "dataset_digest": manifest.digest,
        "manifest_key": published.manifest_key,
        **totals.model_dump(),
        "change": manifest.change.model_dump(mode="json"),
        "new": published.new,
    }


def _put_deliveries(
    context: StepContext, tables: DeltaTables, source: str, deliveries: Sequence[CheckedDelivery]
) -> None:
    spec = context.document.spec
    for number, delivery in enumerate(deliveries):
        for name in spec.data.tables:
            location = _location(spec, source, name)
            content = fingerprint(
                rows=delivery.content[name], on=delivery.delivered_on.isoformat(), split=_words(spec, name)
            )
            if not tables.holds(location, delivery.delivery, content):
                rows = _with_platform_columns(
                    spec, name, read_parquet(context.store, delivery.clean_keys[name]), source, delivery
                )
                tables.put_delivery(location, delivery.delivery, rows, content)
        context.progress(number + 1, len(deliveries), "deliveries", force=True, delivery=delivery.delivery)


def _with_platform_columns(
    spec: FamilySpec, name: str, rows: pa.Table, source: str, delivery: CheckedDelivery
) -> pa.Table:
    digest = rows.column(DIGEST)
    size = rows.num_rows
    rows = rows.drop_columns([DIGEST])
    rows = rows.append_column("source", pa.repeat(pa.scalar(source), size))
    rows = rows.append_column("delivery", pa.repeat(pa.scalar(delivery.delivery), size))
    rows = rows.append_column("delivered_on", pa.repeat(pa.scalar(delivery.delivered_on, pa.date32()), size))
    rows = rows.append_column(DIGEST, digest)
    if name != spec.split.table:
        return rows
    return rows.append_column(
        SPLIT, pa.array(split_column(spec.split, rows.column(spec.split.by).to_pylist()), pa.string())
    )


def _name_version(
    context: StepContext, tables: DeltaTables, catalogue: Catalogue, source: str, deliveries: Sequence[CheckedDelivery]
) -> _Published:
    family = context.document.family
    for _ in range(ATTEMPTS):
        entries = catalogue.versions(family)
        parent = read_manifest(context.store, entries[0]) if entries else None
        content = _content(context, tables, source, _merge(_last_of_source(context, entries, source), deliveries))
        digest = dataset_digest(family, content.tables)
        for entry in entries:
            if entry.fingerprint == digest:
                return _Published(read_manifest(context.store, entry), entry.manifest_key, new=False)
        change = next_version(parent.version if parent else None, parent.shape if parent else None, content.shape)
        manifest = Manifest(
            family=family,
            version=change.version,
            digest=digest,
            source=source,
            split=content.shape.split,
            suite=context.document.spec.data.suite,
            code_version=context.document.code_version,
            parent=parent.version if parent else None,
            change=ChangeManifest(level=change.level, reason=change.reason),
            tables=content.tables,
            deliveries=content.deliveries,
            totals=Totals.of(content.deliveries),
        )
        key = manifest_key(family, change.version, digest)
        context.store.put(key, json.dumps(manifest.to_json(), indent=1, sort_keys=True).encode())
        if catalogue.add_version(VersionEntry(family, change.version, digest, key, datetime.now(UTC))):
            print(f"published {family} {change.version}: {change.reason}", flush=True)
            return _Published(manifest, key, new=True)
    raise PublishError(f"others published {ATTEMPTS} versions of {family} meanwhile", hint="try again")


@dataclass(frozen=True)
class _Content:
    """What a version would hold."""

    deliveries: list[CheckedDelivery]
    tables: dict[str, TableManifest]
    shape: Shape


def _content(context: StepContext, tables: DeltaTables, source: str, deliveries: list[CheckedDelivery]) -> _Content:
    spec = context.document.spec
    manifests = {name: _table_manifest(spec, tables, source, name, deliveries) for name in spec.data.tables}
    if not deliveries or not manifests[spec.split.table].rows:
        raise DataError(
            f"there is no clean row in {spec.split.table!r} to publish",
            where=context.document.inputs["source"],
            hint="check the interval (since, until) and what the source offers",
        )
    shape = Shape(
        source=source,
        schemas={name: tuple(table.columns) for name, table in manifests.items()},
        rows={name: table.rows for name, table in manifests.items()},
        split=_words(spec, spec.split.table),
    )
    return _Content(deliveries, manifests, shape)


def _table_manifest(
    spec: FamilySpec, tables: DeltaTables, source: str, name: str, deliveries: Sequence[CheckedDelivery]
) -> TableManifest:
    location = _location(spec, source, name)
    version = tables.version(location)
    is_split = name == spec.split.table
    if version is None:
        raise DataError(
            f"nothing of {source!r} was published yet",
            where=name,
            hint="check the interval (since, until) and the source",
        )
    rows = tables.read(location, version, {delivery.delivery for delivery in deliveries})
    splits = Counter(rows.column(SPLIT).to_pylist()) if is_split else Counter()
    marks = (
        pc.binary_join_element_wise(rows.column(DIGEST), rows.column(SPLIT), " ") if is_split else rows.column(DIGEST)
    )
    columns = describe_schema(rows.schema)
    return TableManifest(
        location=location,
        delta_version=version,
        key=spec.data.tables[name].key,
        rows=rows.num_rows,
        splits=dict(sorted(splits.items())),
        columns=list(columns),
        digest=content_digest(columns, marks.to_pylist()),
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


def _location(spec: FamilySpec, source: str, table: str) -> str:
    return f"datasets/{spec.family}/{source}/{table}"


def _words(spec: FamilySpec, table: str) -> str:
    """How the rows of a table are divided, in words."""
    split: SplitSpec = spec.split
    if table != split.table:
        return ""
    return f"{split.train:g}/{split.validation:g}/{split.test:g} by {split.by}, seed {split.seed}"
