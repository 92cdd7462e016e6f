"""Makes rows of a table from a file's records: names are mapped, and every value must be of its column's type.

CSV knows only text, so that text is turned into numbers, dates and truth values where the column wants them. Nothing
is guessed: a value that is not of the type is a `wrong_type`, and a number that is not finite is no number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from include.data.formats.convert import Converter, NotFinite, converter
from include.data.formats.parsed import NOT_FINITE, NOT_UTF8, NUL_BYTE, WRONG_SCHEMA, WRONG_TYPE, Parsed, has_surrogate


@dataclass(frozen=True)
class TableMapping:
    """How records become rows of a table.

    Attributes:
        schema: The table's columns. One that is not nullable must have a value in every record.
        columns: Column -> name in the file, where the two differ.
        nulls: Texts that stand for no value.
        from_text: Values come as text, as in CSV.
    """

    schema: pa.Schema
    columns: Mapping[str, str] = field(default_factory=dict)
    nulls: frozenset[str] = frozenset()
    from_text: bool = False


def mapped_records(records: Iterator[Parsed], mapping: TableMapping) -> Iterator[Parsed]:
    """`records` with the columns of the table; what does not fit gets a problem. Further names are left out."""
    columns = [_Column(column, mapping) for column in mapping.schema]
    for record in records:
        yield record if record.problem else _mapped(record, columns)


class _Column:
    def __init__(self, column: pa.Field, mapping: TableMapping) -> None:
        self.name: str = column.name
        self.source = mapping.columns.get(column.name, column.name)
        self.required = not column.nullable
        self.nulls = mapping.nulls
        self.convert: Converter = converter(column.type, mapping.from_text)


def _mapped(record: Parsed, columns: list[_Column]) -> Parsed:
    value: dict[str, Any] = {}
    for column in columns:
        given = record.value.get(column.source)
        if isinstance(given, str) and given in column.nulls:
            given = None
        if given is None:
            if column.required:
                what = "has no value" if column.source in record.value else "is missing"
                return _faulty(record, WRONG_SCHEMA, f"{column.source!r} {what}")
            value[column.name] = None
            continue
        try:
            value[column.name] = column.convert(given)
        except NotFinite as error:
            return _faulty(record, NOT_FINITE, f"{column.source!r} is {error}")
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            return _faulty(record, WRONG_TYPE, f"{column.source!r} {error}")
        if isinstance(given, str | list) and (fault := _text_fault(value[column.name])):
            return _faulty(record, fault, f"in {column.source!r}")
    return Parsed(record.number, value, raw=record.raw)


def _text_fault(value: Any) -> str | None:
    if isinstance(value, list):
        return next((fault for item in value if (fault := _text_fault(item))), None)
    if not isinstance(value, str):
        return None
    if "\0" in value:
        return NUL_BYTE
    return NOT_UTF8 if has_surrogate(value) else None


def _faulty(record: Parsed, problem: str, detail: str) -> Parsed:
    raw = record.raw.encode("utf-8", "replace").decode()
    return Parsed(record.number, {}, problem, detail, raw)
