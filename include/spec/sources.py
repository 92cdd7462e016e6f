"""The sources of a family's data: what each brings, where it lies, how it is read, and what becomes of late rows.

A spec never holds a secret: a URL with a password in it is refused, and `connection` names an Airflow connection that
the step finds in its environment.
"""

from __future__ import annotations

import codecs
from datetime import date
from enum import Enum
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, field_validator, model_validator

from include.spec.base import Name, SpecModel

SAMPLE = "sample"
RESERVED = frozenset({"declared", "release"})  # ids that the platform gives
_SECRET_WORDS = ("password", "passwd", "pwd", "secret", "token", "signature", "credential", "api_key", "apikey", "sas")
_SECRET_NAMES = frozenset({"sig", "key", "auth", "access_key", "x-amz-signature", "x-amz-security-token"})
_DATABASES = frozenset({"postgresql", "postgres", "sqlite", "mysql", "mariadb", "mssql", "oracle"})


class SourceRole(str, Enum):
    """What kind of rows a source brings."""

    PRODUCTION_QUERIES = "production_queries"
    EXPERT_ANNOTATIONS = "expert_annotations"
    SYNTHETIC = "synthetic"
    DOCUMENT_EXTRACTION = "document_extraction"
    FEEDBACK = "feedback"
    BENCHMARK = "benchmark"


class SourceKind(str, Enum):
    """How a source is reached."""

    SAMPLE = "sample"  # the data that ships with the family
    FOLDER = "folder"  # a folder or a file of this machine
    S3 = "s3"
    HTTP = "http"
    SQL = "sql"


class LateRule(str, Enum):
    """What becomes of a delivery that turns up after a newer one was ingested."""

    ACCEPT = "accept"  # the next version has it
    QUARANTINE = "quarantine"  # its rows go to quarantine with the reason `late`


class FileFormat(str, Enum):
    """How records are written in a file. Text may be gzipped."""

    JSON = "json"  # one array of objects
    JSONL = "jsonl"  # one object per line
    CSV = "csv"
    PARQUET = "parquet"


class CsvSpec(SpecModel):
    """How a source writes its CSV.

    Attributes:
        delimiter: One character between cells.
        encoding: A text encoding in which ASCII is ASCII.
        header: Names of the columns, where the first row does not hold them.
        nulls: Cells that stand for no value.
    """

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    header: tuple[str, ...] = ()
    nulls: tuple[str, ...] = ("",)

    @field_validator("encoding")
    @classmethod
    def _is_ascii_based(cls, encoding: str) -> str:
        try:
            if '",\n'.encode(encoding) == b'",\n' and codecs.lookup(encoding).name != "utf-7":
                return encoding
        except (LookupError, UnicodeError):
            pass
        raise ValueError(f"{encoding!r} is no text encoding that can be read line by line; use utf-8 or cp1252")


class SqlSpec(SpecModel):
    """What a source asks its database.

    Attributes:
        query: A SELECT with the bound parameters `:since` and `:until`, such as
            `select * from answers where updated_at >= :since and updated_at < :until`.
        watermark: Column of the answer that says when a row came about (a date or a moment in UTC); its day is the
            delivery that the row belongs to.
        overlap_days: Days before the newest ingested one that are asked for again, for rows that were written late.
        fetch_rows: Rows per round trip.
    """

    query: str
    watermark: str
    overlap_days: Annotated[int, Field(ge=0, le=366)] = 1
    fetch_rows: Annotated[int, Field(ge=1, le=100_000)] = 5_000

    @field_validator("query")
    @classmethod
    def _is_bound(cls, query: str) -> str:
        missing = [name for name in (":since", ":until") if name not in query]
        if missing:
            raise ValueError(f"must select by {' and '.join(missing)}, so that a run asks only for its interval")
        return query.strip().rstrip(";")


class SourceSpec(SpecModel):
    """One source.

    Attributes:
        role: What kind of rows it brings.
        url: A folder or file, `sample`, `s3://bucket/prefix`, `http(s)://...` (with `{date}`: one file per day), or a
            database (`postgresql://host/name`). May be left out where the connection says it all.
        connection: Airflow connection with the credentials.
        domain: What its rows are about, where that matters for the version: a new domain is a major change.
        reader: Which of the family's readers turns files into rows; `auto` lets the family look at the files.
        table: The table that its records are rows of. With it nothing of the family's code reads the source; the
            fields below say how.
        format: Format of its files; by default the ending of a file's name tells.
        columns: Column of the table -> name at the source, where the two differ.
        files: Pattern of the names that count, such as `*.csv`.
        delivered_on: The day of files that have no date in their names; by default that of their last change.
        start: The first day there is anything, for sources that are asked day by day.
        late: What becomes of deliveries that come after newer ones.
        max_file_bytes: A file that is larger, unpacked, is refused.
    """

    role: SourceRole
    url: str = ""
    connection: Annotated[str, Field(pattern=r"^[\w.-]{1,200}$")] | None = None
    domain: Name | None = None
    reader: Name = "auto"
    table: Name | None = None
    format: FileFormat | None = None
    columns: dict[str, str] = {}
    csv: CsvSpec = CsvSpec()
    files: str | None = None
    sql: SqlSpec | None = None
    delivered_on: date | None = None
    start: date | None = None
    late: LateRule = LateRule.ACCEPT
    max_file_bytes: Annotated[int, Field(ge=1024)] = 64 << 30

    @property
    def kind(self) -> SourceKind:
        """How it is reached."""
        return kind_of(self.url) if self.url else SourceKind.SQL

    @field_validator("url")
    @classmethod
    def _is_known_and_open(cls, url: str) -> str:
        require_no_secret(url)
        if url:
            kind_of(url)
        return url

    @model_validator(mode="after")
    def _agrees(self) -> SourceSpec:
        if not self.url and not (self.connection and self.sql):
            raise ValueError("`url` is needed, or `connection` with `sql`")
        if (self.kind is SourceKind.SQL) != (self.sql is not None):
            raise ValueError("`sql` goes with a database, and a database needs it")
        if self.kind in (SourceKind.SQL, SourceKind.HTTP) and self.table is None:
            raise ValueError("`table` is needed: only files are read by the family's code")
        if self.table is None and (self.format or self.columns or self.files or self.csv != CsvSpec()):
            raise ValueError("format, columns, csv, files: only with `table`; else the family's code reads the files")
        if "{date}" in self.url and self.kind is not SourceKind.HTTP:
            raise ValueError("`{date}` goes with http(s); in folders and buckets the names of files tell the day")
        if "{date}" in self.url and self.start is None:
            raise ValueError("`start` is needed with `{date}`: the first day to ask for")
        return self


def connection_variable(connection: str) -> str:
    """The environment variable of an Airflow connection."""
    return f"AIRFLOW_CONN_{connection.upper()}"


def kind_of(url: str) -> SourceKind:
    """How the place is reached.

    Raises:
        ValueError: There is no way that is known.
    """
    scheme = urlsplit(url).scheme.lower().split("+")[0] if "://" in url else ""
    if url == SAMPLE:
        return SourceKind.SAMPLE
    if scheme in ("", "file"):
        return SourceKind.FOLDER
    if scheme == "s3":
        return SourceKind.S3
    if scheme in ("http", "https"):
        return SourceKind.HTTP
    if scheme in _DATABASES:
        return SourceKind.SQL
    raise ValueError(f"unknown kind of source {scheme}://: use a folder, file://, s3://, http(s):// or a database")


def require_no_secret(url: str) -> None:
    """Raises `ValueError`, which does not repeat the secret, where the URL holds one."""
    try:
        parts = urlsplit(url)
        names = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)] if "://" in url else []
        has_password = "://" in url and parts.password is not None
    except ValueError:
        raise ValueError("is not a URL") from None
    if has_password:
        raise ValueError("holds a password: keep it in an Airflow connection, and name that as `connection`")
    secret = next((n for n in names if n in _SECRET_NAMES or any(word in n for word in _SECRET_WORDS)), None)
    if secret:
        raise ValueError(f"holds a secret ({secret}): keep it in an Airflow connection, and name that as `connection`")
