"""Rows of a table out of files whose layout is declared: format, columns and table, without a parser of the family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from include.data.formats import (
    FileFormat,
    TableMapping,
    format_of,
    mapped_records,
    parsed_file,
    place_of,
    require_usable,
)
from include.data.formats.opening import MAX_FILE_BYTES
from include.errors import UserError
from include.families.contract import RawRecord
from include.spec.sources import CsvSpec


def table_records(
    path: Path,
    place: str,
    table: str,
    schema: pa.Schema,
    *,
    max_row_bytes: int,
    max_file_bytes: int = MAX_FILE_BYTES,
    form: FileFormat | None = None,
    from_text: bool | None = None,
    columns: Mapping[str, str] | None = None,
    csv: CsvSpec | None = None,
) -> Iterator[RawRecord]:
    """The records of one file as rows of `table`, streamed.

    A record that cannot be used has the problem `malformed_json`, `malformed_csv`, `not_utf8`, `nul_byte`, `too_long`,
    `wrong_schema` (a column is missing), `wrong_type` or `not_finite`.

    Args:
        place: The file's name for people; a record's place is `place:line`.
        schema: The table's columns; one that is not nullable must have a value.
        form: Format of the file; None goes by the ending of its name.
        from_text: Whether numbers, dates and lists come as text; None goes by the format.
        columns: Column -> name in the file, where they differ.
        csv: How a CSV file is written.

    Raises:
        DataError: The file cannot be read at all, or not one of its records can be used.
        UserError: Its format is not known.
    """
    form = form or format_of(path.name)
    if form is None:
        raise UserError(f"the format of {path.name!r} is not known", where=str(path), hint="name it in the spec")
    csv = csv or CsvSpec()
    nulls = frozenset(csv.nulls) if form is FileFormat.CSV else frozenset[str]()
    mapping = TableMapping(schema, columns or {}, nulls, form is FileFormat.CSV if from_text is None else from_text)
    records = mapped_records(parsed_file(path, form, max_row_bytes, max_file_bytes, csv), mapping)
    for record in require_usable(path, records, may_be_empty=True):
        at = place_of(place, form, record.number)
        yield RawRecord(table, at, record.value, record.problem, record.raw if record.problem else "", record.detail)
