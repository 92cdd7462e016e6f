"""A file of any known format as records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from include.data.formats.csv_text import csv_rows
from include.data.formats.json_text import array_items, json_lines
from include.data.formats.opening import MAX_FILE_BYTES
from include.data.formats.parquet_file import parquet_rows
from include.data.formats.parsed import Parsed
from include.spec.sources import CsvSpec, FileFormat

_ENDINGS = {
    ".csv": FileFormat.CSV,
    ".tsv": FileFormat.CSV,
    ".txt": FileFormat.CSV,
    ".json": FileFormat.JSON,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".parquet": FileFormat.PARQUET,
}
_UNITS = {FileFormat.JSON: "record ", FileFormat.PARQUET: "row "}


def format_of(name: str) -> FileFormat | None:
    """The format that a file's name speaks of; `.gz` at its end does not matter. None for an unknown ending."""
    return _ENDINGS.get(Path(name.removesuffix(".gz")).suffix.lower())


def place_of(file: str, form: FileFormat, number: int) -> str:
    """Where a record stands: `file:line`, `file:record 3` or `file:row 3`."""
    return f"{file}:{_UNITS.get(form, '')}{number}"


def parsed_file(
    path: Path, form: FileFormat, max_row_bytes: int, max_file_bytes: int = MAX_FILE_BYTES, table: CsvSpec | None = None
) -> Iterator[Parsed]:
    """The records of a file, streamed.

    Args:
        table: How a CSV file is written.

    Raises:
        DataError: The file cannot be read at all.
    """
    if form is FileFormat.CSV:
        how = table or CsvSpec()
        return csv_rows(
            path, max_row_bytes, max_file_bytes, delimiter=how.delimiter, encoding=how.encoding, header=how.header
        )
    read = {FileFormat.JSONL: json_lines, FileFormat.JSON: array_items, FileFormat.PARQUET: parquet_rows}[form]
    return read(path, max_row_bytes, max_file_bytes)
