"""Opens a source, and turns what it delivered into records."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from include.data.declared import table_records
from include.data.formats.opening import unreadable
from include.data.rows import describe_schema
from include.data.sources.credentials import find_credentials
from include.data.sources.files import DeclaredFiles
from include.data.sources.http import HttpFiles
from include.data.sources.local import LocalFiles, LocalLayout
from include.data.sources.place import Place
from include.data.sources.s3 import S3Files, S3Layout
from include.data.sources.selection import SourceRef, local_path
from include.data.sources.sql import SqlRows
from include.errors import UserError
from include.families.contract import DataCode, Delivery, RawRecord
from include.spec import family_folder
from include.spec.models import TableSpec
from include.spec.sources import FileFormat, SourceKind
from include.steps.fingerprint import fingerprint
from include.store.scratch import scratch_folder


@contextmanager
def open_place(
    ref: SourceRef, code: DataCode, tables: Mapping[str, TableSpec], environ: Mapping[str, str] | None = None
) -> Iterator[Place]:
    """The place where a source's deliveries lie.

    Args:
        code: The family's code, which reads what is not declared.
        tables: The family's tables.
        environ: Where connections are found; None takes the process's environment.

    Raises:
        UserError: Its connection is missing, or the kind of place is not known.
    """
    spec = ref.spec
    key = tables[spec.table].key if spec.table else None
    key = spec.columns.get(key, key) if key else None  # as the source calls it
    with scratch_folder("source") as folder:
        if spec.kind in (SourceKind.SAMPLE, SourceKind.FOLDER):
            path = sample_folder(ref.family) if spec.kind is SourceKind.SAMPLE else local_path(spec.url)
            yield DeclaredFiles(LocalFiles(path), spec) if spec.table else LocalLayout(path, code, spec.reader)
        elif spec.kind is SourceKind.S3:
            files = S3Files(spec.url, find_credentials(spec.connection, environ), spec.max_file_bytes)
            yield DeclaredFiles(files, spec) if spec.table else S3Layout(files, code, spec.reader, folder)
        elif spec.kind is SourceKind.HTTP:
            yield HttpFiles(spec, find_credentials(spec.connection, environ), folder)
        elif spec.sql is not None and key is not None:
            yield SqlRows(spec, spec.sql, find_credentials(spec.connection, environ), key, folder)
        else:
            raise UserError("a database needs `sql` and `table`", where=f"data.sources.{ref.id}")


def sample_folder(family: str) -> Path:
    """Where the data that ships with the family lies."""
    return family_folder(family) / "sample" / "deliveries"


def records_of(
    ref: SourceRef, code: DataCode, delivery: Delivery, tables: Mapping[str, pa.Schema], max_row_bytes: int
) -> Iterator[RawRecord]:
    """The delivery's records, streamed. Raises `DataError` for a file that cannot be read at all."""
    spec = ref.spec
    if spec.table is None:
        yield from code.records(delivery, max_row_bytes)
        return
    for path in delivery.files:
        yield from table_records(
            path,
            f"{delivery.name}/{path.name}",
            spec.table,
            tables[spec.table],
            max_row_bytes=max_row_bytes,
            max_file_bytes=spec.max_file_bytes,
            form=FileFormat.JSONL if spec.sql else spec.format,
            from_text=spec.sql is not None or None,  # a database's decimals and dates come as text
            columns=spec.columns,
            csv=spec.csv,
        )


def delivery_digest(delivery: Delivery, salt: str = "") -> str:
    """sha256 (hex) over the names and bytes of the delivery's files, and `salt`.

    Raises:
        DataError: A file cannot be read.
    """
    digest = hashlib.sha256(salt.encode())
    for path in delivery.files:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise unreadable(path, error) from error
        digest.update(f"{path.parent.name}/{path.name}\0{content}\n".encode())
    return digest.hexdigest()


def reading_mark(ref: SourceRef, tables: Mapping[str, pa.Schema]) -> str:
    """What decides how declared files become rows: with another mark the same files are another content."""
    spec = ref.spec
    if spec.table is None:
        return ""
    how = spec.model_dump(mode="json", include={"table", "format", "columns", "csv", "delivered_on"})
    return fingerprint(how=how, schema=describe_schema(tables[spec.table]))
