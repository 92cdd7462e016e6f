"""One at a time: a lock that a crashed process cannot leave behind.

Registering a candidate touches two databases, ours and MLflow's, which no transaction spans. Whoever does it holds this
lock. On SQLite, which is one machine, it is a file lock; on PostgreSQL it is an advisory lock of the session. Both end
with the process that holds them, however it ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text


@contextmanager
def exclusive(engine: Engine, name: str) -> Iterator[None]:
    """Waits for the lock `name` of this database, and holds it for the `with` block. Not re-entrant."""
    if engine.dialect.name == "postgresql":
        key = {"key": int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)}
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)
        return
    handle = os.open(f"{engine.url.database}.{name}.lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
