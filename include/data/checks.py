"""Stores what became of a delivery, and reads it back. A stored check is never altered.

How rows are divided is told in `include.data.sieve`. `check.json` is written last of all files of a check: without
it there is no check.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.data.batches import stream_parquet
from include.data.marks import MARKS, SIZE, Marks
from include.data.records import DeliveryCheck, IngestedDelivery
from include.data.released import Waivers
from include.data.sieve import Sieve
from include.errors import WindtunnelError
from include.expectations.known import Known
from include.expectations.suites import binding_reasons, suite_digest, suite_version
from include.spec.models import BaseFamilySpec
from include.store.objects import ObjectNotFound, ObjectStore
from include.store.scratch import scratch_folder, scratch_root


class CheckError(WindtunnelError):
    """The outcome of a check cannot be written."""


def load_check(store: ObjectStore, prefix: str) -> DeliveryCheck | None:
    """The check under `prefix`, if it is complete."""
    try:
        return DeliveryCheck.model_validate_json(store.get(f"{prefix}/check.json"))
    except ObjectNotFound:
        return None


def load_keys(store: ObjectStore, check: DeliveryCheck, known: Known) -> None:
    """Adds the clean rows of a stored check to `known`."""
    for batch in stream_parquet(store, check.keys_key):
        for table in pc.unique(batch.column("table")).to_pylist():
            rows = batch.filter(pc.equal(batch.column("table"), table))
            known.add(table, _marks(rows.column("key")), _marks(rows.column("content")))


def make_check(
    store: ObjectStore,
    prefix: str,
    spec: BaseFamilySpec,
    schemas: Mapping[str, pa.Schema],
    suite: ModuleType,
    delivery: IngestedDelivery,
    known: Known,
    progress: Callable[[int], None] = lambda rows: None,
    earlier: Sequence[DeliveryCheck] = (),
) -> DeliveryCheck:
    """Checks a raw batch against what is `known` of earlier deliveries, and stores the outcome under `prefix`.

    Args:
        progress: Told after every piece how many rows were checked.
        earlier: Checks of earlier deliveries that passed, oldest first.

    Raises:
        CheckError: The disk is full.
        StoreError: The object store cannot be read or written.
    """
    waivers = Waivers.of(store, delivery, binding_reasons(suite))
    try:
        with scratch_folder("check") as folder:
            with Sieve(store, prefix, spec, suite, delivery, known, waivers, folder, progress, earlier) as sieve:
                tables = {table: sieve.divide(table, schemas[table]) for table in suite.TABLES}
            for path in sorted(folder.iterdir()):
                store.upload(f"{prefix}/{path.name}", path)
    except OSError as error:
        hint = "check that the folder is writable and its disk is not full"
        where = str(scratch_root())
        raise CheckError(f"cannot write the check: {error.strerror or error}", where=where, hint=hint) from error
    made = DeliveryCheck(
        delivery=delivery.delivery,
        delivered_on=delivery.delivered_on,
        digest=delivery.digest,
        suite=spec.data.suite,
        suite_version=suite_version(suite),
        suite_digest=suite_digest(suite),
        tables=tables,
        quarantine_key=f"{prefix}/quarantine.parquet",
        keys_key=f"{prefix}/keys.parquet",
        batch_key=delivery.batch_key,
        checked_at=datetime.now(UTC),
    )
    store.put(f"{prefix}/check.json", json.dumps(made.model_dump(mode="json"), indent=1).encode())
    return made


def _marks(column: pa.Array) -> Marks:
    return np.frombuffer(column.buffers()[1], MARKS, count=len(column), offset=column.offset * SIZE)
