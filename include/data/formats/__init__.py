"""Readers of file formats: JSON, JSON lines, CSV and Parquet, each streamed, each hostile file met with a clear answer.

A record that cannot be used is one `Parsed` with the name of its problem and never hides its neighbours; a file that
cannot be read at all is a `DataError` with its place. `open_file` undoes gzip under a limit.
"""

from include.data.formats.files import format_of, parsed_file, place_of
from include.data.formats.mapping import TableMapping, mapped_records
from include.data.formats.parsed import (
    MALFORMED_CSV,
    MALFORMED_JSON,
    NOT_FINITE,
    NOT_UTF8,
    NUL_BYTE,
    TOO_LONG,
    WRONG_SCHEMA,
    WRONG_TYPE,
    Parsed,
    require_usable,
)
from include.spec.sources import FileFormat

__all__ = [
    "MALFORMED_CSV",
    "MALFORMED_JSON",
    "NOT_FINITE",
    "NOT_UTF8",
    "NUL_BYTE",
    "TOO_LONG",
    "WRONG_SCHEMA",
    "WRONG_TYPE",
    "FileFormat",
    "Parsed",
    "TableMapping",
    "format_of",
    "mapped_records",
    "parsed_file",
    "place_of",
    "require_usable",
]
