"""Raw batches: what a delivery held, unchanged, as Parquet. Written once, never altered.

`<batch>/<table>.parquet` holds the records that could be parsed, with the `place` where each stood;
`problems.parquet` those that could not. `batch.json` is written last: without it there is no batch.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include.errors import WindtunnelError
from include.families.contract import RawRecord
from include.store.objects import ObjectStore
from include.store.scratch import scratch_folder, scratch_root

PLACE = "place"
PROBLEMS = "problems"
ROWS_PER_GROUP = 50_000  # what is checked at a time; a hundred times as many would not be checked faster
SIZE_PER_GROUP = 32_000_000  # characters and numbers: bounds a group of long rows
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
        BatchError: The disk is full.
        StoreError: The object store cannot be written.
    """
    try:
        with scratch_folder("batch") as folder:
            writers = {
                name: _Writer(folder / f"{name}.parquet", raw_schema(schema)) for name, schema in schemas.items()
            }
            writers[PROBLEMS] = _Writer(folder / f"{PROBLEMS}.parquet", PROBLEM_SCHEMA)
            for record in records:
                if record.problem is None:
                    writers[record.table].add({**record.values, PLACE: record.place})
                else:
                    writers[PROBLEMS].add(_problem_row(record))
            for writer in writers.values():
                path = writer.close()
                store.upload(f"{prefix}/{path.name}", path)
    except OSError as error:
        hint = "check that the folder is writable and its disk is not full"
        where = str(scratch_root())
        raise BatchError(f"cannot write the raw batch: {error.strerror or error}", where=where, hint=hint) from error
    confirm()
    rows = {name: writer.rows for name, writer in writers.items()}
    store.put(f"{prefix}/batch.json", json.dumps({"rows": rows}, sort_keys=True).encode())
    return sum(rows.values())


def stream_batch(store: ObjectStore, prefix: str, table: str) -> Iterator[pa.RecordBatch]:
    """One table of a batch, or its `PROBLEMS`, piece by piece. Raises `ObjectNotFound`."""
    return stream_parquet(store, f"{prefix}/{table}.parquet")


def stream_parquet(store: ObjectStore, key: str) -> Iterator[pa.RecordBatch]:
    """The rows that a Parquet object holds, one row group after the other. Raises `ObjectNotFound`."""
    with open_parquet(store, key) as file:
        yield from row_groups(file)


@contextmanager
def open_parquet(store: ObjectStore, key: str) -> Iterator[pq.ParquetFile]:
    """A Parquet object as a file that is read from disk. Raises `ObjectNotFound`."""
    with scratch_folder("read") as folder:
        path = folder / "file.parquet"
        store.download(key, path)
        with pq.ParquetFile(path) as file:
            yield file


def row_groups(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """The row groups of a file, each as one batch; an empty one where there is none."""
    for number in range(file.num_row_groups):
        yield from file.read_row_group(number).combine_chunks().to_batches()


def read_parquet(store: ObjectStore, key: str) -> pa.Table:
    """The small table that a Parquet object holds. Raises `ObjectNotFound`."""
    return pq.read_table(pa.BufferReader(store.get(key)))


def write_parquet(store: ObjectStore, key: str, table: pa.Table) -> None:
    """Writes a small table as one Parquet object."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    store.put(key, buffer.getvalue())


class ParquetSink:
    """Writes batches of rows into a file, a row group each. Use it as a context manager."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema, self.rows = path, schema, 0
        self._file = pq.ParquetWriter(path, schema, compression="zstd")

    def __enter__(self) -> ParquetSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds rows; none is no row group."""
        if batch.num_rows:
            self._file.write_batch(batch)
            self.rows += batch.num_rows

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows that are Python values."""
        self.write(pa.RecordBatch.from_pylist(list(rows), schema=self.schema))


class _Writer:
    """Collects rows and writes them in groups, so that a delivery of any size fits into memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._sink = ParquetSink(path, schema)
        self._pending: list[Mapping[str, Any]] = []
        self._size = 0

    @property
    def rows(self) -> int:
        return self._sink.rows + len(self._pending)

    def add(self, row: Mapping[str, Any]) -> None:
        self._pending.append(row)
        self._size += sum([len(value) if type(value) is str else _size(value) for value in row.values()])
        if len(self._pending) >= ROWS_PER_GROUP or self._size >= SIZE_PER_GROUP:
            self._flush()

    def close(self) -> Path:
        with self._sink as sink:
            self._flush()
        return sink.path

    def _flush(self) -> None:
        self._sink.write_rows(self._pending)
        self._pending, self._size = [], 0


def _size(value: object) -> int:
    """About how much memory a value takes: characters of its texts, 8 for everything else."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list):
        return sum([_size(item) for item in value])
    return sum([_size(key) + _size(item) for key, item in value.items()]) if isinstance(value, dict) else 8


def _problem_row(record: RawRecord) -> dict[str, Any]:
    return {
        "table": record.table,
        PLACE: record.place,
        "problem": record.problem,
        "detail": record.detail[:MAX_RAW],
        "raw": record.raw[:MAX_RAW].encode("utf-8", "replace").decode("utf-8"),
    }
