"""Digests of rows and tables: what "the same row" and "the same content" mean."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.data.marks import MARKS, SIZE, Marks, SortedMarks, marks_of, to_hex
from include.steps.fingerprint import canonical_json

_NULL = b"-"


def row_json(row: Mapping[str, Any]) -> str:
    """The row as JSON with sorted keys; dates and moments in ISO 8601, bytes in base 64, the rest as text."""
    return canonical_json({name: _plain(value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, date | time):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def row_marks(rows: pa.RecordBatch, columns: Sequence[str]) -> Marks:
    """The mark of every row's `columns`, by name: a new order of columns is the same row."""
    parts = [_netstrings(rows.column(name)) for name in sorted(columns)]
    if not parts:
        return marks_of([b""] * rows.num_rows)
    return marks_of(pc.binary_join_element_wise(*parts, b"").to_pylist())


def key_marks(keys: pa.Array) -> Marks:
    """The mark of every key; the number 7 and the text "7" are the same key."""
    return marks_of(_netstrings(keys).to_pylist())


def digest_column(marks: Marks) -> pa.Array:
    """Marks as text, 32 hex digits each."""
    offsets = pa.array(np.arange(len(marks) + 1, dtype=np.int32) * (2 * SIZE))
    return pa.StringArray.from_buffers(len(marks), offsets.buffers()[1], pa.py_buffer(to_hex(marks)))


def marks_of_digests(digests: pa.Array) -> Marks:
    """What `digest_column` made text of."""
    return np.frombuffer(bytes.fromhex("".join(digests.to_pylist())), MARKS)


def content_digest(schema: Iterable[str], parts: Mapping[str, SortedMarks]) -> str:
    """sha256 (hex) of a table: its columns, and the marks of its rows whatever their order.

    Args:
        parts: Name of a part of the table (such as its split; "" for a table without) -> the marks of its rows.
    """
    digest = hashlib.sha256("\n".join(sorted(schema)).encode() + b"\0")
    for name in sorted(parts):
        digest.update(name.encode() + b"\0")
        for marks in parts[name].parts():
            digest.update(marks.tobytes())
    return digest.hexdigest()


def describe_schema(schema: pa.Schema) -> tuple[str, ...]:
    """The columns with their types, such as `question: string`; names of list items do not count."""
    return tuple(f"{field.name}: {_type(field.type)}" for field in schema)


def value_counts(values: pa.ChunkedArray) -> dict[str, int]:
    """Value, as text, -> rows that have it; rows without a value do not count."""
    counts = pc.value_counts(values)
    return {str(entry["values"]): entry["counts"] for entry in counts.to_pylist() if entry["values"] is not None}


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_type(kind.value_type)}>"
    return str(kind).removeprefix("large_")


def _netstrings(values: pa.Array) -> pa.Array:
    """Every value as `<length in bytes>:<bytes>`, null as `-`: joined to others, no two rows look the same."""
    texts = _texts(values)
    sizes = pc.binary_length(texts).cast(pa.string()).cast(pa.binary())
    return pc.fill_null(pc.binary_join_element_wise(sizes, texts, b":"), _NULL)


def _texts(values: pa.Array) -> pa.Array:
    """Every value as bytes; nulls stay."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _texts(values.dictionary_decode())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _lists(values)
    if _is_text(kind):
        return values.cast(pa.binary())
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return values.cast(pa.int32()).cast(pa.string()).cast(pa.binary())
    if pa.types.is_temporal(kind):
        return values.cast(pa.int64()).cast(pa.string()).cast(pa.binary())
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind):
        return values.cast(pa.string()).cast(pa.binary())
    return pa.array(
        [None if value is None else canonical_json(value).encode() for value in values.to_pylist()], pa.binary()
    )


def _lists(values: pa.Array) -> pa.Array:
    """A list as its items, one netstring after the other."""
    sizes = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, _netstrings(values.flatten())), b"")
    return pc.if_else(values.is_valid(), joined, pa.scalar(None, pa.binary()))


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
