"""Reads Parquet files in batches. A damaged file is refused as a whole: its pages cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from include.data.formats.opening import MAX_FILE_BYTES, unreadable
from include.data.formats.parsed import FETCH_AGAIN, KEPT_BYTES, TOO_LONG, Parsed, empty_file
from include.errors import DataError

ROWS_PER_BATCH = 1_024


def parquet_rows(path: Path, max_bytes: int, max_file_bytes: int = MAX_FILE_BYTES) -> Iterator[Parsed]:
    """The rows of a Parquet file, with the types that it has.

    Raises:
        DataError: The file cannot be read, is empty or damaged, has no columns, or unpacks to more than the limit.
    """
    number, unpacked = 0, 0
    try:
        if path.stat().st_size == 0:
            raise empty_file(path)
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.names:
                raise DataError("the file holds no columns", where=str(path), hint=FETCH_AGAIN)
            for batch in file.iter_batches(ROWS_PER_BATCH):
                unpacked += batch.nbytes
                if unpacked > max_file_bytes:
                    hint = "if it is right, deliver it in parts or raise the source's max_file_bytes"
                    raise DataError(f"the file unpacks to more than {max_file_bytes} bytes", where=str(path), hint=hint)
                for row in batch.to_pylist():
                    number += 1
                    yield _parsed(number, row, max_bytes)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as Parquet: {error}", where=str(path), hint=FETCH_AGAIN) from None
    except OSError as error:
        if error.strerror:
            raise unreadable(path, error) from error
        raise DataError(f"cannot be read as Parquet: {error}", where=str(path), hint=FETCH_AGAIN) from None


def _parsed(number: int, row: dict[str, Any], max_bytes: int) -> Parsed:
    raw = str(row)[:KEPT_BYTES] if _size(row) <= max_bytes else ""
    if not raw:
        start = {name: value[:100] if isinstance(value, str | bytes) else "..." for name, value in row.items()}
        return Parsed(number, {}, TOO_LONG, f"longer than {max_bytes} bytes", str(start)[:KEPT_BYTES])
    return Parsed(number, row, raw=raw)


def _size(value: Any) -> int:
    """About how many bytes a value holds."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(_size(item) for item in value.values())
    return sum(_size(item) for item in value) if isinstance(value, list) else 8
