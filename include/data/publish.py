"""The `publish` step: clean rows become a dataset version.

Two moves. First every delivery is put into the Delta tables, exactly once (see `include.store.datasets`). Then the
content of all deliveries together is named (see `include.data.naming`). What was killed in between is done again.

A version holds the deliveries of its parent from the same source, those of this run, and those before this run's
interval, so that nothing is missing when a delivery came late or intervals are run out of order.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from include.data.batches import read_parquet
from include.data.catalogue import Catalogue
from include.data.checks import DIGEST
from include.data.manifest import SPLIT, Manifest, table_location
from include.data.naming import name_version
from include.data.records import CheckedDelivery, Totals
from include.data.sources import source_id
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
    source = source_id(inputs["source"])
    now = [CheckedDelivery.model_validate(record) for record in inputs["checked"]]
    before_key = now[0].earlier if now else None
    records = read_json(context.store, before_key) if before_key else []
    deliveries = [*(CheckedDelivery.model_validate(record) for record in records), *now]
    tables = DeltaTables(context.store)
    engine = open_database(context.settings.database_url)
    _put_deliveries(context, tables, source, deliveries)
    published = name_version(context, tables, Catalogue(engine), source, deliveries)
    _tell_ledger(Ledger(engine), published.manifest, document.run)
    return {
        "dataset_version": published.manifest.version,
        "dataset_digest": published.manifest.digest,
        "manifest_key": published.manifest_key,
        **Totals.of(now).model_dump(),
        "change": published.manifest.change.model_dump(mode="json"),
        "new": published.new,
    }


def _put_deliveries(
    context: StepContext, tables: DeltaTables, source: str, deliveries: Sequence[CheckedDelivery]
) -> None:
    spec = context.document.spec
    for number, delivery in enumerate(deliveries):
        for name in spec.data.tables:
            own = name == spec.split.table and decided_by_value(spec.split)
            split = describe_own_split(spec.split) if own else ""
            content = fingerprint(rows=delivery.content[name], on=delivery.delivered_on.isoformat(), split=split)
            location = table_location(spec.family, source, name)
            if not tables.holds(location, delivery.delivery, content):
                rows = read_parquet(context.store, delivery.clean_keys[name])
                rows = _with_platform_columns(spec, name, rows, delivery)
                tables.put_delivery(location, delivery.delivery, rows, content)
        context.progress(number + 1, len(deliveries), "deliveries", force=True, delivery=delivery.delivery)


def _with_platform_columns(spec: BaseFamilySpec, name: str, rows: pa.Table, delivery: CheckedDelivery) -> pa.Table:
    source = delivery.check_key.split("/")[2]  # that of the run, or `release`
    size, digest = rows.num_rows, rows.column(DIGEST)
    rows = rows.drop_columns([DIGEST])
    rows = rows.append_column("source", pa.repeat(pa.scalar(source), size))
    rows = rows.append_column("delivery", pa.repeat(pa.scalar(delivery.delivery), size))
    rows = rows.append_column("delivered_on", pa.repeat(pa.scalar(delivery.delivered_on, pa.date32()), size))
    rows = rows.append_column(DIGEST, digest)
    if name != spec.split.table:
        return rows
    splits = split_column(spec.split, rows.column(spec.split.by).to_pylist())
    return rows.append_column(SPLIT, pa.array(splits, pa.string()))


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
