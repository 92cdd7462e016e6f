"""Airflow's SQLite database: made ready for several writers, and migrated only when it has to be."""

from __future__ import annotations

import contextlib
import sqlite3
from importlib.metadata import version
from pathlib import Path

from include.embedded.layout import read_json, write_json


def use_wal(database: Path) -> None:
    """Switches the database to write-ahead logging, for good: readers and a writer then do not block each other."""
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def needs_migration(database: Path, memory: Path) -> bool:
    """Whether `airflow db migrate` has something to do.

    `memory` holds the Airflow version of the last successful start and the database's revision after it; asking Airflow
    itself costs seconds of imports.
    """
    return bool(read_json(memory) != {"airflow": version("apache-airflow"), "revision": revision(database)})


def remember_migration(database: Path, memory: Path) -> None:
    """Called when Airflow runs: the database is at the revision that this version of Airflow wants."""
    found = revision(database)
    if found:
        write_json(memory, {"airflow": version("apache-airflow"), "revision": found})


def revision(database: Path) -> str | None:
    """The database's Alembic revision; None where there is no usable database."""
    if not database.is_file():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            row = connection.execute("select version_num from alembic_version").fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None
