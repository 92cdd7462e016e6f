"""The migrations make what the code expects, and nobody changes what was written, on every kind of database."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from include.release.decisions import decide
from include.release.ledger import Event, Ledger, StaleRoute
from include.release.locks import exclusive
from include.release.routing import Role, RoutingTable, Variant
from include.settings import Settings
from include.store import schema
from include.store.database import open_database
from tests.servers.postgres import PostgresServer

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
TABLE = RoutingTable(champion=Variant(role=Role.CHAMPION, version="1.0.0", digest="a" * 64))


pytestmark = pytest.mark.every_database


@pytest.fixture
def engine(settings: Settings) -> Engine:
    return open_database(settings.database_url)


def test_the_migrations_make_the_tables_of_the_code(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


@pytest.fixture
def new_url(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes URLs of empty databases."""
    numbers = itertools.count()
    if database == "sqlite":
        return lambda: f"sqlite:///{tmp_path}/{next(numbers)}.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return lambda: server.url(server.create())


@pytest.mark.slow
def test_a_database_whose_making_was_killed_is_made_by_the_next(new_url: Callable[[], str]) -> None:
    """Dies at every few lines of the migration; half of the tables must never be there."""
    lines, deaths, url = 5, 0, new_url()
    while _killed_while_migrating(url, lines):
        deaths += 1
        engine = open_database(url)
        assert {"ledger", "decisions"} <= set(inspect(engine).get_table_names())
        engine.dispose()
        open_database.cache_clear()
        url, lines = new_url(), lines + 15
    assert deaths > 3


def _killed_while_migrating(url: str, lines: int) -> bool:
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal seen
        if "0001_ledger" not in frame.f_code.co_filename:
            return None
        seen += event == "line"
        if seen > lines:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    child = os.fork()
    if child == 0:
        open_database.cache_clear()
        sys.settrace(trace)
        try:
            open_database(url)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_every_table_refuses_changes(engine: Engine) -> None:
    ledger = Ledger(engine)
    ledger.append("append-only", Event.ARCHIVED, key="k", actor="me", at=NOW)
    ledger.swap_route("append-only", 0, TABLE, reason="r", actor="me", at=NOW)
    given = {"family": "f", "champion": None, "votes": [], "requests": [], "cooldown_hours": 1, "now": NOW.isoformat()}
    decide(engine, "append-only", "retrain", given, code_version="c", at=NOW)
    statements = [f"{verb} {name}" for name in ("ledger", "routes", "decisions") for verb in ("DELETE FROM", "UPDATE")]
    if engine.dialect.name == "postgresql":
        statements += [f"TRUNCATE {name}" for name in schema.APPEND_ONLY]
    for statement in statements:
        change = f"{statement} SET family = 'x'" if statement.startswith("UPDATE") else statement
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(text(change))
    assert len(ledger.entries("append-only")) == 1


def test_every_table_has_its_guards(engine: Engine) -> None:
    catalogue = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    }
    with engine.connect() as connection:
        guards = set(connection.execute(text(catalogue[engine.dialect.name])).scalars())
    assert {f"{table}_no_{verb}" for table in schema.APPEND_ONLY for verb in ("update", "delete")} <= guards


def test_the_ledger_works_the_same_everywhere(engine: Engine) -> None:
    ledger = Ledger(engine)
    assert ledger.append("same", Event.PROMOTED, key="k", actor="me", at=NOW, record={"n": 1})
    assert not ledger.append("same", Event.PROMOTED, key="k", actor="me", at=NOW)
    assert ledger.swap_route("same", 0, TABLE, reason="r", actor="me", at=NOW) == 1
    with pytest.raises(StaleRoute):
        ledger.swap_route("same", 0, TABLE, reason="r", actor="me", at=NOW)
    route = ledger.served_at("same", NOW)
    assert route is not None
    assert (route.at, route.table) == (NOW, TABLE)


def test_the_lock_is_held_by_one(engine: Engine) -> None:
    import threading

    inside, most, order = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            with exclusive(engine, "register-tiny"):
                with order:
                    inside += 1
                    most = max(most, inside)
                threading.Event().wait(0.005)
                with order:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
