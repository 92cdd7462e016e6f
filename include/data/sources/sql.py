"""Rows of a database, through SQLAlchemy: a query for a span of days, streamed, cut into one delivery per day.

The query is asked from the newest ingested day on (and `overlap_days` before it, for rows that were written late), or
from the start of the run's interval, whichever is earlier. A day whose rows changed since is a corrected delivery.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import URL, RowMapping, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError

from include.data.sources.credentials import Credentials, SourceError
from include.data.sources.place import Offer, Window
from include.errors import DataError, UserError, WindtunnelError
from include.families.contract import Delivery
from include.spec.sources import SourceSpec, SqlSpec

ROWS_FILE = "rows.jsonl"
_BEGINNING = date(1, 1, 1)
_DRIVERS = {"postgres": "postgresql", "postgresql": "postgresql"}


class SqlRows:
    """Satisfies `Place`. An offer's rows lie in a file until the next offer is asked for.

    Args:
        key: Column of the answer that tells rows of one moment apart; the order of rows depends on it.
        folder: Where the file of a day lies.
    """

    def __init__(self, spec: SourceSpec, sql: SqlSpec, credentials: Credentials, key: str, folder: Path) -> None:
        self._spec = spec
        self._sql = sql
        self._credentials = credentials
        self._key = key
        self._folder = folder
        self._url = database_url(spec.url, credentials)

    @property
    def where(self) -> str:
        url = self._url
        return URL.create(url.drivername, host=url.host, port=url.port, database=url.database).render_as_string()

    def offers(self, window: Window) -> Iterator[Offer]:
        begin, end = self._span(window)
        if begin >= end:
            return
        try:
            engine = self._engine()
            with engine.connect() as connection:
                yield from self._days(self._rows(engine, connection, begin, end), begin, end)
        except (SQLAlchemyError, ImportError) as error:
            raise self._failed(error) from None
        finally:
            self._file.unlink(missing_ok=True)

    @contextmanager
    def fetch(self, offer: Offer) -> Iterator[Delivery]:
        yield Delivery(offer.name, offer.delivered_on, (offer.what,))

    @property
    def _file(self) -> Path:
        return self._folder / ROWS_FILE

    def _span(self, window: Window) -> tuple[date, date]:
        begin = _BEGINNING
        if window.watermark:
            begin = window.watermark - timedelta(self._sql.overlap_days)
            begin = min(begin, window.since) if window.since else begin
        tomorrow = window.today + timedelta(1)
        return max(begin, self._spec.start or begin), min(window.until or tomorrow, tomorrow)

    def _engine(self) -> Engine:
        is_postgres = self._url.get_backend_name() == "postgresql"
        arguments: dict[str, Any] = {"options": "-c timezone=utc"} if is_postgres else {}
        return create_engine(self._url, connect_args=arguments)

    def _rows(self, engine: Engine, connection: Connection, begin: date, end: date) -> Iterator[RowMapping]:
        quote = engine.dialect.identifier_preparer.quote
        columns = dict.fromkeys([self._sql.watermark, self._key])
        order = ", ".join(quote(column) for column in columns)
        query = text(f"SELECT * FROM ({self._sql.query}) windtunnel_rows ORDER BY {order}")
        options: dict[str, Any] = {"stream_results": True, "yield_per": self._sql.fetch_rows}
        if engine.dialect.name == "postgresql":
            options["postgresql_readonly"] = True
        # As text: every database turns it into the type of the column that it is compared with.
        span = {"since": begin.isoformat(), "until": end.isoformat()}
        found = connection.execution_options(**options).execute(query, span)
        return iter(found.mappings())

    def _days(self, rows: Iterator[RowMapping], begin: date, end: date) -> Iterator[Offer]:
        day: date | None = None
        file = None
        try:
            for row in rows:
                of_row = self._day(row, begin, end)
                if of_row != day:
                    if file is not None and day is not None:
                        file.close()
                        yield Offer(day.isoformat(), day, what=self._file)
                    day, file = of_row, self._file.open("w", encoding="utf-8")
                assert file is not None
                file.write(json.dumps(dict(row), default=_plain, ensure_ascii=False) + "\n")
            if file is not None and day is not None:
                file.close()
                yield Offer(day.isoformat(), day, what=self._file)
        finally:
            if file is not None:
                file.close()

    def _day(self, row: RowMapping, begin: date, end: date) -> date:
        value = row.get(self._sql.watermark)
        day = _day_of(value)
        if day is None:
            raise DataError(
                f"the watermark {self._sql.watermark!r} must be a date or a moment, not {type(value).__name__}",
                where=self.where,
                hint="leave rows without one out in the query, and make them a source of their own",
            )
        if not begin <= day < end:
            hint = "compare the watermark with >= :since and < :until"
            raise UserError(f"the query gives rows of {day}, asked for {begin} to {end}", where=self.where, hint=hint)
        return day

    def _failed(self, error: Exception) -> WindtunnelError:
        if isinstance(error, ImportError | NoSuchModuleError):
            hint = "install the driver of the database, such as psycopg2-binary for PostgreSQL"
            return UserError(f"there is no driver for {self._url.drivername}", where=self.where, hint=hint)
        words = str(error.orig) if isinstance(error, DBAPIError) and error.orig is not None else type(error).__name__
        words = self._credentials.scrub(words.strip())
        if isinstance(error, OperationalError) and not _is_wrong(words):
            return SourceError(f"the database failed: {words}", where=self.where, hint="check that it can be reached")
        return UserError(f"the database refuses: {words}", where=self.where, hint="check the query and the connection")


def database_url(url: str, credentials: Credentials) -> URL:
    """The URL with what the connection says of it.

    Raises:
        UserError: The two do not make a URL.
    """
    kind = _DRIVERS.get(credentials.kind, credentials.kind)
    try:
        made = make_url(url.replace("postgres://", "postgresql://", 1)) if url else URL.create(kind)
        if made.drivername == "postgresql" and find_spec("psycopg") is None:  # SQLAlchemy's own choice of a driver
            made = made.set(drivername="postgresql+psycopg2")
        return made.set(
            host=made.host or credentials.host or None,
            port=made.port or credentials.port,
            database=made.database or credentials.schema or None,
            username=credentials.login or made.username,
            password=credentials.password or None,
        )
    except (ArgumentError, ValueError):
        raise UserError("not the URL of a database", where="data.sources", hint="postgresql://host/name") from None


def _day_of(value: Any) -> date | None:
    """The day (UTC) of a watermark."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).date()
    return value if isinstance(value, date) else None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    return format(value, "f") if isinstance(value, Decimal) and value.is_finite() else str(value)


def _is_wrong(words: str) -> bool:
    """Whether trying again is useless: the database is there, and does not like what it was asked."""
    lower = words.lower()
    return any(part in lower for part in ("no such", "syntax", "authentication failed", "does not exist", "denied"))
