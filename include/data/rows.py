"""Digests of rows and tables: what "the same row" and "the same content" mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from include.steps.fingerprint import canonical_json


def row_digests(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """sha256 (hex) of every row's `columns`, by name: a new order of columns is the same row."""
    ordered = sorted(columns)
    return [hashlib.sha256(canonical_json({name: row[name] for name in ordered}).encode()).hexdigest() for row in rows]


def content_digest(schema: Iterable[str], marks: Iterable[str]) -> str:
    """sha256 (hex) of a table: its columns, and the `marks` (digests) of its rows whatever their order."""
    digest = hashlib.sha256("\n".join(sorted(schema)).encode() + b"\0")
    for mark in sorted(marks):
        digest.update(mark.encode() + b"\n")
    return digest.hexdigest()


def describe_schema(schema: pa.Schema) -> tuple[str, ...]:
    """The columns with their types, such as `question: string`; names of list items do not count."""
    return tuple(f"{field.name}: {_type(field.type)}" for field in schema)


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_type(kind.value_type)}>"
    return str(kind).removeprefix("large_")
