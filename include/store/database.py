"""Opens the ledger and catalogue database, at the newest schema.

SQLite on a laptop, PostgreSQL in production; the same tables and the same Alembic migrations.
"""

from __future__ import annotations

import fcntl
import os
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from include.errors import WindtunnelError

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
HEAD = "0002"
BUSY_SECONDS = 30
_MIGRATING = 0x77696E6474756E6E  # key of the advisory lock that a migration of PostgreSQL holds


class DatabaseError(WindtunnelError):
    """The ledger database cannot be used."""


@lru_cache(maxsize=8)
def open_database(url: str) -> Engine:
    """An engine on the database at `url`, migrated to the newest schema. One per process and URL.

    Raises:
        DatabaseError: It cannot be reached, written or migrated.
    """
    parsed = make_url(url)
    arguments = {"timeout": BUSY_SECONDS} if parsed.get_backend_name() == "sqlite" else {}
    try:
        if arguments and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args=arguments, pool_pre_ping=not arguments)
        if arguments:
            event.listen(engine, "connect", _tune_sqlite)
        _migrate(engine)
    except (OSError, SQLAlchemyError) as error:
        shown = parsed.render_as_string(hide_password=True)
        raise DatabaseError(
            f"the ledger database cannot be opened: {error}",
            where=shown,
            hint="check that the server is up, the folder is writable and the disk is not full",
        ) from error
    return engine


def _tune_sqlite(connection: object, _: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _revision(engine: Engine) -> str | None:
    try:
        if not inspect(engine).has_table("alembic_version"):
            return None
        with engine.connect() as connection:
            return connection.execute(text("select version_num from alembic_version")).scalar()
    except OperationalError:
        return None


def _migrate(engine: Engine) -> None:
    if _revision(engine) == HEAD:  # the common case must not pay for importing Alembic
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with _one_at_a_time(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":  # held until the commit, or until this process dies
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


class _one_at_a_time:
    """Two processes that start on a fresh SQLite file must not both create the tables; nothing on other databases."""

    def __init__(self, engine: Engine) -> None:
        file = engine.url.database if engine.url.get_backend_name() == "sqlite" else None
        self._path = f"{file}.migrating" if file else None
        self._handle: int | None = None

    def __enter__(self) -> None:
        if self._path:
            self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
            fcntl.flock(self._handle, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            os.close(self._handle)
