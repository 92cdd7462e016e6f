"""Raw batches: what a delivery held, unchanged, as Parquet. Written once, never altered.

`<batch>/<table>.parquet` holds the records that could be parsed, with the `place` where each stood;
`problems.parquet` those that could not. `batch.json` is written last: without it there is no batch.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include.errors import WindtunnelError
from include.families.contract import RawRecord
from include.store.objects import ObjectStore

PLACE = "place"
PROBLEMS = "problems"
ROWS_PER_GROUP = 4_096
MAX_RAW = 2_000

PROBLEM_SCHEMA = pa.schema([(name, pa.string()) for name in ("table", PLACE, "problem", "detail", "raw")])


class BatchError(WindtunnelError):
    """A raw batch cannot be written."""


def raw_schema(schema: pa.Schema) -> pa.Schema:
    """A table's schema in a raw batch: nothing is required, and every row has its place."""
    return pa.schema([field.with_nullable(True) for field in schema] + [pa.field(PLACE, pa.string())])


def batch_exists(store: ObjectStore, prefix: str) -> bool:
    """Whether there is a complete batch under `prefix`."""
    return store.exists(f"{prefix}/batch.json")


def rows_of_batch(store: ObjectStore, prefix: str) -> int:
    """Records in a complete batch, those that could not be parsed included. Raises `ObjectNotFound`."""
    rows: dict[str, int] = json.loads(store.get(f"{prefix}/batch.json"))["rows"]
    return sum(rows.values())


def write_batch(
    store: ObjectStore,
    prefix: str,
    schemas: Mapping[str, pa.Schema],
    records: Iterable[RawRecord],
    confirm: Callable[[], None],
) -> int:
    """Streams `records` into a batch; returns how many there were.

    Args:
        confirm: Called when everything was read, before the batch counts; raises where the source changed meanwhile.

    Raises:
        BatchError: The temporary folder is full.
        StoreError: The object store cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="windtunnel-batch-") as folder:
            writers = {
                name: _Writer(Path(folder) / f"{name}.parquet", raw_schema(schema)) for name, schema in schemas.items()
            }
            writers[PROBLEMS] = _Writer(Path(folder) / f"{PROBLEMS}.parquet", PROBLEM_SCHEMA)
            for record in records:
                if record.problem is None:
                    writers[record.table].add({**record.values, PLACE: record.place})
                else:
                    writers[PROBLEMS].add(_problem_row(record))
            for writer in writers.values():
                store.upload(f"{prefix}/{writer.close().name}", writer.path)
    except OSError as error:
        hint = "check that the temporary folder is writable and the disk is not full"
        raise BatchError(
            f"cannot write the raw batch: {error.strerror or error}", where=tempfile.gettempdir(), hint=hint
        ) from error
    confirm()
    rows = {name: writer.rows for name, writer in writers.items()}
    store.put(f"{prefix}/batch.json", json.dumps({"rows": rows}, sort_keys=True).encode())
    return sum(rows.values())


def read_batch(store: ObjectStore, prefix: str, table: str) -> pa.Table:
    """One table of a batch, or its `PROBLEMS`. Raises `ObjectNotFound`."""
    return read_parquet(store, f"{prefix}/{table}.parquet")


def read_parquet(store: ObjectStore, key: str) -> pa.Table:
    """The table that a Parquet object holds. Raises `ObjectNotFound`."""
    return pq.read_table(pa.BufferReader(store.get(key)))


def write_parquet(store: ObjectStore, key: str, table: pa.Table) -> None:
    """Writes a table as one Parquet object."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    store.put(key, buffer.getvalue())


class _Writer:
    """Collects rows and writes them in groups, so that a delivery of any size fits into memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.rows = 0
        self._schema = schema
        self._pending: list[dict[str, Any]] = []
        self._file = pq.ParquetWriter(path, schema, compression="zstd")

    def add(self, row: dict[str, Any]) -> None:
        self._pending.append(row)
        self.rows += 1
        if len(self._pending) >= ROWS_PER_GROUP:
            self._flush()

    def close(self) -> Path:
        self._flush()
        self._file.close()
        return self.path

    def _flush(self) -> None:
        if self._pending:
            self._file.write_table(pa.Table.from_pylist(self._pending, schema=self._schema))
            self._pending = []


def _problem_row(record: RawRecord) -> dict[str, Any]:
    return {
        "table": record.table,
        PLACE: record.place,
        "problem": record.problem,
        "detail": record.detail[:MAX_RAW],
        "raw": record.raw[:MAX_RAW].encode("utf-8", "replace").decode("utf-8"),
    }
