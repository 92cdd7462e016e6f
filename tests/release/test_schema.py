"""The migrations make what the code expects, and nobody changes what was written. On PostgreSQL where one can be
started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from include.release.decisions import decide
from include.release.ledger import Event, Ledger, StaleRoute
from include.release.locks import exclusive
from include.release.routing import Role, RoutingTable, Variant
from include.settings import Settings
from include.store import schema
from include.store.database import open_database

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
TABLE = RoutingTable(champion=Variant(role=Role.CHAMPION, version="1.0.0", digest="a" * 64))


def _postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL of its own on a socket in `folder`; as another user when we are root, which it refuses to run as."""
    tools = Path(shutil.which("initdb") or "/missing").resolve().parent
    if not (tools / "postgres").exists() or not shutil.which("setpriv"):
        pytest.skip("no PostgreSQL on this machine")
    data, user = folder / "data", "postgres"
    prefix: list[str] = []
    if os.geteuid() == 0:
        nobody = subprocess.run(["id", "-u", "nobody"], capture_output=True, text=True, check=True).stdout.strip()
        prefix = ["setpriv", f"--reuid={nobody}", "--clear-groups", "--"]
        for place in [folder, *folder.parents]:
            if place.owner() == "root" and str(place).startswith(os.environ.get("TMPDIR", "/tmp") + "/"):
                place.chmod(0o755)
        folder.chmod(0o777)
    run = {"check": True, "capture_output": True, "cwd": folder}
    subprocess.run([*prefix, tools / "initdb", "-D", data, "-U", user, "-A", "trust", "-N"], **run)
    options = f"-c listen_addresses='' -k {folder} -c fsync=off"
    subprocess.run([*prefix, tools / "pg_ctl", "-D", data, "-o", options, "-w", "-l", folder / "log", "start"], **run)
    try:
        yield f"postgresql+psycopg2://{user}@/postgres?host={folder}"
    finally:
        subprocess.run([*prefix, tools / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from _postgres(tmp_path_factory.mktemp("pg"))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest, settings: Settings) -> Engine:
    url = settings.database_url if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return open_database(url)


def test_the_migrations_make_the_tables_of_the_code(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


@pytest.mark.slow
def test_a_database_whose_making_was_killed_is_made_by_the_next(settings: Settings) -> None:
    """Dies at every few lines of the migration; half of the tables must never be there."""
    lines, deaths = 5, 0
    while _killed_while_migrating(settings.database_url, lines):
        deaths += 1
        open_database.cache_clear()
        database = Path(settings.home / "db" / "ledger.db")
        assert open_database(settings.database_url).dialect.name == "sqlite"
        open_database(settings.database_url).dispose()
        for path in database.parent.glob("ledger.db*"):
            path.unlink()
        lines += 15
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
