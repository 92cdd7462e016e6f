"""The `publish` step: clean rows become a dataset version.

Two moves. First every delivery is put into the Delta tables, exactly once (see `include.store.datasets`). Then the
content of all deliveries together is named (see `include.data.naming`). What was killed in between is done again.

A version holds the deliveries of its parent from the same sources, those of this run, and those before this run's
interval, so that nothing is missing when a delivery came late or intervals are run out of order.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include.data.batches import open_parquet, row_groups
from include.data.catalogue import Catalogue
from include.data.manifest import SPLIT, Manifest, table_location
from include.data.naming import name_version
from include.data.quality_store import keep_quality
from include.data.records import CheckedDelivery, Totals
from include.data.sieve import DIGEST
from include.data.sources import select_sources
from include.data.splits import decided_by_value, describe_own_split, split_column
from include.release.ledger import Event, Ledger
from include.spec.models import BaseFamilySpec
from include.steps.entry import StepContext, read_json
from include.steps.fingerprint import fingerprint
from include.store.database import open_database
from include.store.datasets import DeltaTables


def publish(context: StepContext) -> dict[str, Any]:
    """See the module. Inputs: `checked` of `validate`, `source`; for the outputs see the end of this function.

    Raises:
        DataError: There is no clean row to publish.
    """
    inputs, document = context.document.inputs, context.document
    selection = select_sources(document.spec, inputs.get("source"))
    now = [CheckedDelivery.model_validate(record) for record in inputs["checked"]]
    before_key = now[0].earlier if now else None
    records = read_json(context.store, before_key) if before_key else []
    deliveries = [*(CheckedDelivery.model_validate(record) for record in records), *now]
    tables = DeltaTables(context.store)
    engine = open_database(context.settings.database_url)
    _put_deliveries(context, tables, selection.origin, deliveries)
    published = name_version(context, tables, Catalogue(engine), selection, deliveries)
    _tell_ledger(Ledger(engine), published.manifest, document.run)
    quality = keep_quality(context, published.manifest)
    return {
        "dataset_version": published.manifest.version,
        "dataset_digest": published.manifest.digest,
        "manifest_key": published.manifest_key,
        **Totals.of(now).model_dump(),
        "change": published.manifest.change.model_dump(mode="json"),
        "new": published.new,
        **quality,
    }


def _put_deliveries(
    context: StepContext, tables: DeltaTables, origin: str, deliveries: Sequence[CheckedDelivery]
) -> None:
    spec = context.document.spec
    for number, delivery in enumerate(deliveries):
        for name in spec.data.tables:
            own = name == spec.split.table and decided_by_value(spec.split)
            split = describe_own_split(spec.split) if own else ""
            content = fingerprint(rows=delivery.content[name], on=delivery.delivered_on.isoformat(), split=split)
            location = table_location(spec.family, origin, name)
            if not tables.holds(location, delivery.delivery, content):
                with open_parquet(context.store, delivery.clean_keys[name]) as file:
                    rows = _PublishedRows(spec, name, file, delivery)
                    tables.put_delivery(location, delivery.delivery, rows, content)
        context.progress(number + 1, len(deliveries), "deliveries", force=True, delivery=delivery.delivery)


class _PublishedRows:
    """Clean rows with the columns that the platform adds, read piece by piece (see `include.store.datasets.Rows`)."""

    def __init__(self, spec: BaseFamilySpec, name: str, file: pq.ParquetFile, delivery: CheckedDelivery) -> None:
        self._spec, self._is_split, self._file = spec, name == spec.split.table, file
        self._delivery = delivery
        self.num_rows: int = file.metadata.num_rows
        columns = [field for field in file.schema_arrow if field.name != DIGEST]
        added = [("source", pa.string()), ("delivery", pa.string()), ("delivered_on", pa.date32())]
        added += [(DIGEST, pa.string()), *([(SPLIT, pa.string())] if self._is_split else [])]
        self.schema = pa.schema([*columns, *(pa.field(*column) for column in added)])

    def to_reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.schema, map(self._published, row_groups(self._file)))

    def _published(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        size, delivery = rows.num_rows, self._delivery
        columns = [rows.column(field.name) for field in rows.schema if field.name != DIGEST]
        columns += [pa.repeat(delivery.source, size), pa.repeat(delivery.delivery, size)]
        columns += [pa.repeat(pa.scalar(delivery.delivered_on, pa.date32()), size), rows.column(DIGEST)]
        if self._is_split:
            made = dict(zip(self.schema.names, columns, strict=False))  # the platform's columns may divide, too
            values = made[self._spec.split.by].to_pylist()
            columns.append(pa.array(split_column(self._spec.split, values), pa.string()))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def _tell_ledger(ledger: Ledger, manifest: Manifest, actor: str) -> None:
    record = {
        "dataset_version": manifest.version,
        "digest": manifest.digest,
        "source": manifest.source,
        "rows": {name: table.rows for name, table in manifest.tables.items()},
        "change": manifest.change.reason,
    }
    key = f"dataset:{manifest.version}"
    ledger.append(manifest.family, Event.DATASET_PUBLISHED, key=key, actor=actor, at=datetime.now(UTC), record=record)
