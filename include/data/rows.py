"""Digests of rows and tables: what "the same row" and "the same content" mean."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.steps.fingerprint import canonical_json


def row_digests(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """sha256 (hex) of every row's `columns`, by name: a new order of columns is the same row."""
    ordered = sorted(columns)
    return [hashlib.sha256(row_json({name: row[name] for name in ordered}).encode()).hexdigest() for row in rows]


def row_json(row: Mapping[str, Any]) -> str:
    """The row as JSON with sorted keys; dates and moments in ISO 8601, decimals as text, bytes in base 64."""
    return canonical_json({name: _plain(value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, date | time):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def content_digest(schema: Iterable[str], marks: Iterable[str]) -> str:
    """sha256 (hex) of a table: its columns, and the `marks` (digests) of its rows whatever their order."""
    digest = hashlib.sha256("\n".join(sorted(schema)).encode() + b"\0")
    for mark in sorted(marks):
        digest.update(mark.encode() + b"\n")
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
